"""`streamlens skip-lost`: go on where events are lost for good."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streamlens.app import App
    from streamlens.log import TP


@click.command(name="skip-lost", epilog="Example: streamlens skip-lost --data-dir .streamlens")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="  [default: .streamlens]")
def skip_lost(data_dir: Path | None) -> None:
    """Go on although records were deleted before they were counted, as the error at the start has told.

    Stop StreamLens first, on a cluster all workers. What is lost is logged, and written down in Postgres: `audit` tells
    of it, and the ledger never has it. Where nothing is lost, nothing changes.
    """
    import logging

    from streamlens import logs
    from streamlens.settings import Settings

    if data_dir is not None:
        os.environ["STREAMLENS_DATA_DIR"] = str(data_dir)
    logs.configure(Settings.load(os.environ).log_format, logging.WARNING)

    from streamlens.app import app
    from streamlens.cli.audit import database
    from streamlens.skiplost import total
    from streamlens.topics import PARTIALS, SOURCES

    app.discover()
    with database(app.settings) as dsn:
        lost = asyncio.run(_skip(app, dsn))
    click.echo(f"{total(lost, list(SOURCES)):,} events are lost")
    if partials := total(lost, [PARTIALS]):
        click.echo(f"{partials:,} records of {PARTIALS} are lost: rows and ledger can be short of what was in them")


async def _skip(app: "App", dsn: str) -> "dict[TP, range]":
    from streamlens.brokers import open_log
    from streamlens.checkpoint.store import RocksStore, Shared
    from streamlens.member import hold
    from streamlens.postgres.identity import claim
    from streamlens.postgres.lost import record_lost
    from streamlens.runtime import clock_us
    from streamlens.skiplost import Skipper

    settings, shared = app.settings, Shared()
    if settings.kafka_brokers:
        hold(settings.data_dir)
    log = open_log(settings, lambda _: None)
    await log.start()
    try:
        await log.create_topics(app.runtime.topics())
        await claim(dsn, log.log_id)
        skipper = Skipper(
            log,
            settings.consumer_group,
            lambda stage, partition: RocksStore(settings.data_dir / "state" / stage / str(partition), shared),
            app.new_logic,
            lambda lost: record_lost(dsn, lost),
            clock_us,
        )
        lost: dict[TP, range] = {}
        for stage in app.runtime.stages:
            lost |= await skipper.skip(stage, settings.partitions)
        return lost
    finally:
        await log.stop()
