"""`streamlens up` on each of the logs, with a database of its own. For the tests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka_broker import KafkaBroker
from process_server import Server
from test_kafka_producers import OnKafka, new_database

LOGS = ("local log", "kafka")


@contextmanager
def on_log(log: str, name: str, scratch: Path, postgres: str) -> Iterator[tuple[Server, Server | KafkaBroker]]:
    """A server, not yet started, and the process that has its log: itself, or a broker of its own, which runs."""
    if log == "local log":
        with Server(scratch / name, dsn=asyncio.run(new_database(postgres, name))) as server:
            yield server, server
        return
    broker = KafkaBroker(scratch / f"{name}-broker")
    try:
        broker.start()
        dsn = asyncio.run(new_database(postgres, f"{name}_on_kafka"))
        with OnKafka(scratch / f"{name}-on-kafka", dsn, broker.brokers) as server:
            yield server, broker
    finally:
        broker.remove()
