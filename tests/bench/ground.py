"""What a benchmark stands on: one Kafka broker and one PostgreSQL below a temporary directory, for all of its runs."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.backlog import PARTITIONS
from bench.worker import Worker
from kafka_broker import KafkaBroker
from streamlens.kafka.log import KafkaLog
from streamlens.postgres.embedded import EmbeddedPostgres


class Ground:
    """Used as an async context manager; it leaves nothing behind. `log` is a client of our own."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="streamlens-bench-"))
        self._broker = KafkaBroker(self.directory / "kafka")
        self.brokers = self._broker.brokers
        self._postgres = EmbeddedPostgres(self.directory / "postgres")
        self._numbers = itertools.count(1)
        self._dsn = ""
        self.log = KafkaLog(self.brokers, client_id="bench", deadline_s=60)

    async def __aenter__(self) -> "Ground":
        try:
            self._dsn = await asyncio.to_thread(self._postgres.start)
            await asyncio.to_thread(self._broker.start)
            await self.log.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self.log.log_id:
                await self.log.stop()
        finally:
            self._broker.stop()
            self._postgres.stop()
            shutil.rmtree(self.directory, ignore_errors=True)

    async def database(self) -> str:
        """The DSN of a new, empty database."""
        name = f"bench_{next(self._numbers)}"
        connection = await asyncpg.connect(self._dsn)
        await connection.execute(f"create database {name}")
        await connection.close()
        return urlunsplit(urlsplit(self._dsn)._replace(path=f"/{name}"))

    async def worker(self, settings: Mapping[str, str] | None = None, *, kafka: bool = True) -> Worker:
        """A worker with a directory of its own, and where `settings` name none, a group and a database; not started."""
        number = next(self._numbers)
        chosen = {"STREAMLENS_PARTITIONS": str(PARTITIONS), "CONSUMER_GROUP": f"bench-{number}", **(settings or {})}
        if kafka:
            chosen["KAFKA_BROKERS"] = self.brokers
        dsn = chosen.pop("POSTGRES_DSN", "") or await self.database()
        return Worker(self.directory / f"worker-{number}", dsn, chosen)
