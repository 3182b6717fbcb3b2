"""`streamlens worker`: one worker of a cluster."""

from pathlib import Path

import click

from streamlens.errors import BadSetting


@click.command(epilog="Example: KAFKA_BROKERS=kafka:9092 POSTGRES_DSN=postgres://… streamlens worker")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to serve on.  [default: 8080]")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="  [default: .streamlens]")
def worker(port: int | None, data_dir: Path | None) -> None:
    """Run one worker of a cluster. Needs KAFKA_BROKERS and POSTGRES_DSN; refused until the Kafka transport is there."""
    raise BadSetting("this version has no Kafka transport yet: use `streamlens up`, which needs no broker")
