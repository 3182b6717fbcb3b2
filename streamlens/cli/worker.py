"""`streamlens worker`: one worker of a cluster."""

from pathlib import Path

import click

from streamlens.errors import BadSetting


@click.command(epilog="Example: KAFKA_BROKERS=kafka:9092 POSTGRES_DSN=postgres://user@host/db streamlens worker")
@click.option("--host", help="Address to serve on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to serve on.  [default: 8080]")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="  [default: .streamlens]")
@click.option("--insecure", is_flag=True, help="Serve on an address that others can reach, without keys.")
def worker(host: str | None, port: int | None, data_dir: Path | None, insecure: bool) -> None:
    """Run one worker of a cluster: start up to as many as there are partitions, each with its own data directory.

    Needs KAFKA_BROKERS and POSTGRES_DSN, and never falls back to embedded ones.
    """
    from streamlens.process import run, settings_with

    settings = settings_with(host, port, data_dir, insecure=insecure)
    for name, value in (("KAFKA_BROKERS", settings.kafka_brokers), ("POSTGRES_DSN", settings.postgres_dsn)):
        if not value:
            raise BadSetting(f"{name} is not set: a worker needs it; `streamlens up` runs without")
    run(settings)
