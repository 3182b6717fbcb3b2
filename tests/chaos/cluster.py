"""What a run breaks: PostgreSQL, workers, the log they stand on, and who starts again what ended by itself."""

import asyncio
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from chaos.proxy import PostgresWire, Proxy
from chaos.worker import Worker
from streamlens import topics
from streamlens.log import TP, Record
from streamlens.postgres.embedded import USER, EmbeddedPostgres
from streamlens.postgres.migrate import migrate
from streamlens.topics import PARTIALS
from visits_oracle import SECRET

GROUP = "chaos"
PARTITIONS = 4
SOURCES = [TP(topic, p) for topic in topics.SOURCES for p in range(PARTITIONS)]
COUNTED = [*SOURCES, *(TP(PARTIALS, p) for p in range(PARTITIONS))]
"""What the workers' group reads: the input topics, and what the stages send each other."""
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
_EXPLAINED = (": Unavailable: ", ": DiskFailed: ")
_RESTART_S = 1.0


class Cluster:
    """Everything below `directory`; `environ` goes to all workers. The log is a subclass' matter."""

    def __init__(self, directory: Path, workers: int, environ: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.postgres = EmbeddedPostgres(directory / "postgres")
        self.sessions: Proxy
        """Between the workers and PostgreSQL, once it has started."""
        self.workers: list[Worker] = []
        self.most = workers
        self.dsn = ""
        self.sent = 0
        """How many records the input topics hold at most."""
        self._environ = environ or {}
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start all, with half of the workers; the others come and go."""
        self.dsn = await asyncio.to_thread(self.postgres.start)
        await migrate(self.dsn)
        (directory,) = parse_qs(urlsplit(self.dsn).query)["host"]
        self.sessions = Proxy(Path(directory, ".s.PGSQL.5432"), PostgresWire)
        self.sessions.start()
        settings = {
            "POSTGRES_DSN": f"postgresql://{USER}@127.0.0.1:{self.sessions.port}/postgres?sslmode=disable",
            "CONSUMER_GROUP": GROUP,
            "STREAMLENS_PARTITIONS": str(PARTITIONS),
            "STREAMLENS_HASH_KEY": SECRET,
            **await self._start_log(),
            **self._environ,
        }
        self.workers = [Worker(self.directory / f"worker-{n + 1}", **settings) for n in range(self.most)]
        for worker in self.workers[: (self.most + 1) // 2]:
            worker.start()
        self._supervisor = asyncio.create_task(self._supervise())

    async def _supervise(self) -> None:
        """A worker ends itself rather than count wrongly, and counts on being started again."""
        while True:
            for worker in self.workers:
                if not worker.is_armed and worker.has_ended():
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
        """Ends of workers that no fault explains: one that can't go on says why, and that it is not its own fault."""
        ends = [end for worker in self.workers for end in worker.ends]
        return [end for end in ends if not any(reason in end for reason in _EXPLAINED)]

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
        await self._remove_log()
        if hasattr(self, "sessions"):
            self.sessions.stop()
        self.postgres.stop()
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    # -- the log ---------------------------------------------------------------------------------------------------

    async def _start_log(self) -> dict[str, str]:
        """Start what the log needs; the workers' settings for it."""
        raise NotImplementedError

    async def _remove_log(self) -> None:
        raise NotImplementedError

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, Sequence[Record]]:
        """Send events, counting them in `sent` before they can arrive; returns those to be sent again."""
        raise NotImplementedError

    async def ends(self) -> int:
        """How many records the input topics hold. Raises `Unavailable`."""
        raise NotImplementedError

    async def lag(self) -> int:
        """Records that the group has not committed, of the partials too. Raises `Unavailable`."""
        raise NotImplementedError

    def records(self) -> AsyncIterator[tuple[str, bytes, bytes]]:
        """(topic, key, value) of everything in the input topics; no keys where nothing but the API writes."""
        raise NotImplementedError

    # -- PostgreSQL ------------------------------------------------------------------------------------------------

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
