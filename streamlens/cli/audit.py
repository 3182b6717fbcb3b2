"""`streamlens audit`: the proof that every event in the log is counted, as a table and an exit code."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamlens.errors import BadSetting

if TYPE_CHECKING:
    from streamlens.audit import Audit, LogCount, Selection
    from streamlens.settings import Settings

EXAMPLE = """
\b
Examples:
  streamlens audit
  streamlens audit --tenant acme --from 2026-07-01T00:00:00Z --to 2026-07-02T00:00:00Z
"""


@click.command(epilog=EXAMPLE)
@click.option("--tenant", help="Show and check this tenant's rows only.")
@click.option("--from", "from_", metavar="TIME", help="From this minute on: RFC 3339 with an offset, or epoch ms.")
@click.option("--to", metavar="TIME", help="Before this minute.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="  [default: .streamlens]")
def audit(tenant: str | None, from_: str | None, to: str | None, data_dir: Path | None) -> None:
    """Prove the ledger: compare what the log holds with what the rows in Postgres say.

    Works beside a running `up`, and when nothing runs. Exit code 0: every event that was read is in the ledger exactly
    once, and every row adds up. Exit code 1: it does not close; the last lines say what is missing. The totals are
    always those of everything.
    """
    import logging

    from streamlens import logs
    from streamlens.audit import Selection
    from streamlens.settings import Settings

    if data_dir is not None:
        os.environ["STREAMLENS_DATA_DIR"] = str(data_dir)
    settings = Settings.load(os.environ)
    logs.configure(settings.log_format, level=logging.WARNING)
    selection = Selection(tenant, _time_us("--from", from_), _time_us("--to", to))
    result = asyncio.run(_audit(settings, selection))
    _show(result)
    if result.faults:
        raise SystemExit(1)


async def _audit(settings: "Settings", selection: "Selection") -> "Audit":
    from streamlens.audit import EXACT_WITHIN_S, GIVE_UP_S, audit, count_ledger
    from streamlens.process import RUN_FILE

    runs = bool(settings.kafka_brokers) or (settings.data_dir / RUN_FILE).exists()
    async with _reading(settings) as read_log:
        log_id = (await read_log()).log_id
        with database(settings) as dsn:
            return await audit(
                read_log,
                lambda: count_ledger(dsn, log_id, selection),
                give_up_s=GIVE_UP_S if runs else EXACT_WITHIN_S,
            )


@asynccontextmanager
async def _reading(settings: "Settings") -> "AsyncIterator[Callable[[], Awaitable[LogCount]]]":
    """How to look at the log that the settings name."""
    from streamlens.audit import count_local_log, count_log

    group = settings.consumer_group
    if not settings.kafka_brokers:
        yield lambda: count_local_log(settings.data_dir / "log", group)
        return
    from streamlens.brokers import security
    from streamlens.kafka.log import KafkaLog

    log = KafkaLog(settings.kafka_brokers, security=security(settings), group=group)
    await log.start()
    try:
        await log.identify()
        yield lambda: count_log(log, log.log_id, settings.partitions, group)
    finally:
        await log.stop()


@contextmanager
def database(settings: "Settings") -> Iterator[str]:
    """The DSN. An embedded server that does not run is started, and stopped afterwards."""
    if settings.postgres_dsn:
        yield settings.postgres_dsn
        return
    from streamlens.postgres.embedded import EmbeddedPostgres

    directory = settings.data_dir / "postgres"
    if not (directory / "PG_VERSION").exists():
        raise BadSetting(f"there is no database in {directory}: start StreamLens once, or set POSTGRES_DSN")
    server = EmbeddedPostgres(directory)
    runs_already = server.pid is not None
    try:
        yield server.start()
    finally:
        if not runs_already:
            server.stop()


def _show(result: "Audit") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from streamlens.audit import COLUMNS

    console = Console()
    slim = partial(Table, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    tenants = slim(title="ledger, in events")
    tenants.add_column("tenant", overflow="fold")
    for name in COLUMNS:
        tenants.add_column(name, justify="right", no_wrap=True)
    for row in result.ledger.tenants:
        tenants.add_row(str(row["tenant_id"]) or "(not known)", *(f"{row[name]:,}" for name in COLUMNS))
    topics = slim(title="log, in records")
    topics.add_column("topic")
    for name in ("appended", "still kept", "read", "unread"):
        topics.add_column(name, justify="right")
    for each in result.log.topics:
        topics.add_row(each.topic, *(f"{count:,}" for count in (each.appended, each.kept, each.read, each.unread)))
    console.print(tenants)
    console.print(topics)
    print(f"read {result.log.read:,}, in the ledger {result.ledger.received:,}")
    if result.ledger.lost:
        print(f"lost {result.ledger.lost:,}: deleted before they were counted, and skipped by command")
    print(f"late or rejected {result.ledger.dead:,}, dead letters {result.log.letters:,}")
    for fault in result.faults:
        print(f"does not close: {fault}")
    if not result.faults:
        print("closes" if result.exact else "closes, up to what is on its way: events arrive all the time")


def _time_us(option: str, value: str | None) -> int | None:
    """Epoch microseconds of an event time. Raises `BadSetting`."""
    if value is None:
        return None
    from datetime import datetime

    from streamlens.events import time_us
    from streamlens.fields import MAX_TIME_US

    try:
        us = time_us(int(value) if value.isascii() and value.isdigit() else datetime.fromisoformat(value))
    except (ValueError, TypeError):  # no time at all; a time without an offset
        us = -1
    if not 0 <= us < MAX_TIME_US:
        raise BadSetting(f"{option} {value}: not an RFC 3339 time with an offset, nor integer epoch milliseconds")
    return us
