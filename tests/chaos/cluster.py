"""Kafka, PostgreSQL and workers of one run, and the supervisor that starts again what ended by itself."""

import asyncio
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import asyncpg

from chaos.worker import Worker
from kafka_broker import KafkaBroker
from streamlens.kafka.log import KafkaLog
from streamlens.log import TP, TopicSpec
from streamlens.postgres.embedded import EmbeddedPostgres
from streamlens.postgres.migrate import migrate
from streamlens.topics import INPUTS, PARTIALS

GROUP = "chaos"
PARTITIONS = 4
TELLING = (
    "partition recovered",
    "partition fenced, taking it over again",
    "partition lost to another worker",
    "snapshot taken",
    "no checkpoint",
    "waiting to recover",
    "postgres has caught up",
)
"""Events of the workers' logs that a result counts."""
_RESTART_S = 1.0


class Cluster:
    """Everything below `directory`. `log` is a client of our own."""

    def __init__(self, directory: Path, workers: int) -> None:
        self.directory = directory
        self.broker = KafkaBroker(directory / "kafka")
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.workers: list[Worker] = []
        self.most = workers
        self.dsn = ""
        self.log = KafkaLog(self.broker.brokers, client_id="chaos")
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start all, with half of the workers; the others come and go."""
        self.dsn = await asyncio.to_thread(self.postgres.start)
        await migrate(self.dsn)
        await asyncio.to_thread(self.broker.start)
        await self.log.start()
        await self.log.create_topics([TopicSpec(topic, PARTITIONS) for topic in INPUTS])
        settings = {"KAFKA_BROKERS": self.broker.brokers, "POSTGRES_DSN": self.dsn, "CONSUMER_GROUP": GROUP}
        settings["STREAMLENS_PARTITIONS"] = str(PARTITIONS)
        self.workers = [Worker(self.directory / f"worker-{n + 1}", **settings) for n in range(self.most)]
        for worker in self.workers[: (self.most + 1) // 2]:
            worker.start()
        self._supervisor = asyncio.create_task(self._supervise())

    async def _supervise(self) -> None:
        """A worker ends itself rather than count wrongly, and counts on being started again."""
        while True:
            for worker in self.workers:
                if worker.has_ended():
                    print(f"         {worker.ends[-1]}", flush=True)
                    await asyncio.sleep(_RESTART_S)
                    worker.start()
            await asyncio.sleep(0.2)

    def running(self) -> list[Worker]:
        """The workers that should run."""
        return [worker for worker in self.workers if worker.is_wanted]

    def said(self) -> Counter[str]:
        """What the workers logged: whether the faults have struck where it hurts."""
        return sum((worker.said(TELLING) for worker in self.workers), Counter())

    def broken(self) -> list[str]:
        """Ends of workers that no fault explains: one that can't go on says what is `Unavailable`."""
        return [end for worker in self.workers for end in worker.ends if ": Unavailable: " not in end]

    async def stop(self) -> list[float]:
        """SIGTERM to the workers; the seconds that each took. Raises `AssertionError` as `Worker.stop` does."""
        await self._end_supervisor()
        return await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in self.running()))

    async def _end_supervisor(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)

    async def remove(self, *, keep: bool) -> None:
        """End whatever runs; `keep` leaves the directory to be looked at."""
        await self._end_supervisor()
        for worker in self.workers:
            worker.kill()
        if self.log.log_id:
            await self.log.stop()
        self.broker.stop()
        self.postgres.stop()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    # -- what faults and verdict ask -------------------------------------------------------------------------------

    async def ends(self) -> int:
        """How many records the input topics hold. Raises `Unavailable`."""
        tps = [TP(topic, p) for topic in INPUTS for p in range(PARTITIONS)]
        return sum(end for _, end in (await self.log.offsets(tps)).values())

    async def lag(self) -> int:
        """Records that the group has not committed, of the partials too. Raises `Unavailable`."""
        tps = [TP(topic, p) for topic in (*INPUTS, PARTIALS) for p in range(PARTITIONS)]
        offsets, committed = await self.log.offsets(tps), await self.log.committed(GROUP)
        return sum(end - committed.get(tp, start) for tp, (start, end) in offsets.items())

    def kill_postgres(self) -> None:
        """SIGKILL to the postmaster; its children see it and go."""
        if (pid := self.postgres.pid) is not None:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while self.postgres.pid is not None and time.monotonic() < deadline:
            time.sleep(0.01)

    async def end_sessions(self) -> None:
        """End every session of the database but ours."""
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        await connection.close()
