"""`streamlens up`: everything in one process, with nothing installed besides."""

from pathlib import Path

import click

from streamlens.errors import BadSetting


@click.command(epilog="Example: streamlens up --demo")
@click.option("--host", help="Address to serve on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to serve on.  [default: 8080]")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="  [default: .streamlens]")
@click.option("--demo", is_flag=True, help="Also send lively traffic to itself, to have something to look at.")
@click.option("--insecure", is_flag=True, help="Serve on an address that others can reach, without keys.")
def up(host: str | None, port: int | None, data_dir: Path | None, demo: bool, insecure: bool) -> None:
    """Run StreamLens: pipeline, API and page in one process.

    Without KAFKA_BROKERS events go to a local log, without POSTGRES_DSN rows go to an embedded PostgreSQL, both in the
    data directory. Prints `ready URL` when it serves. Ctrl-C stops it.
    """
    from streamlens.process import run, settings_with

    settings = settings_with(host, port, data_dir, insecure=insecure)
    if demo and settings.auth == "keys":
        raise BadSetting("--demo sends without a key, which STREAMLENS_AUTH=keys refuses: leave one of them out")
    run(settings, demo=demo)
