"""What is broken, drawn from the seed: workers, the broker and PostgreSQL each on their own, so that faults overlap."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from chaos.cluster import Cluster
from chaos.worker import SESSION_S, Worker

LULLS_S = {"worker": (0.5, 6.0), "broker": (10.0, 25.0), "postgres": (5.0, 25.0)}
"""How long each goes unharmed between two faults: a fault's name begins with whom it strikes."""


class Faults:
    """Draws and makes them. `counts` and the printed lines are the log of a run."""

    def __init__(self, seed: int, cluster: Cluster, kinds: tuple[str, ...] = ()) -> None:
        """`kinds`: only these; all when empty."""
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._began = time.monotonic()
        self._kinds = kinds or KINDS
        self._randoms = {subject: Random(f"{subject}:{seed}") for subject in LULLS_S}
        self._random = self._randoms["worker"]

    async def run(self, until: float) -> None:
        """Break things until the monotonic clock shows `until`; returns when all are whole again."""
        async with asyncio.TaskGroup() as group:
            for subject in LULLS_S:
                group.create_task(self._strike(subject, until))

    async def _strike(self, subject: str, until: float) -> None:
        kinds = [name for name in self._kinds if name.startswith(subject)]
        weights, random = [_FAULTS[name][1] for name in kinds], self._randoms[subject]
        while kinds:
            await asyncio.sleep(random.uniform(*LULLS_S[subject]))
            if time.monotonic() > until:
                return
            await _FAULTS[random.choices(kinds, weights)[0]][0](self)

    def _note(self, name: str, what: str) -> None:
        self.counts[name] += 1
        print(f"{time.monotonic() - self._began:8.1f} {name}: {what}", flush=True)

    def _worker(self) -> Worker | None:
        return self._random.choice(running) if (running := self._cluster.running()) else None

    async def _kill(self, name: str, disk: Callable[[Worker], str]) -> None:
        down_s = self._random.uniform(0, 3) if self._random.random() < 0.7 else SESSION_S + 3
        worker = self._worker()
        if worker is None:
            return
        worker.kill()
        self._note(name, f"{worker.name} {disk(worker)} for {down_s:.1f} s")
        await asyncio.sleep(down_s)
        worker.start()

    async def worker_kill(self) -> None:
        """SIGKILL; the disk is as it was."""

        def copied(worker: Worker) -> str:
            if self._random.random() < 0.3:
                worker.keep_copy()
            return "killed"

        await self._kill("worker_kill", copied)

    async def worker_wiped(self) -> None:
        """SIGKILL; the state or the whole disk is lost."""
        whole = self._random.random() < 0.5

        def wiped(worker: Worker) -> str:
            worker.wipe(whole=whole)
            return "killed and its disk lost" if whole else "killed and its state wiped"

        await self._kill("worker_wiped", wiped)

    async def worker_stale(self) -> None:
        """SIGKILL; an old copy of the state is put back. The first time there is none, so one is made."""

        def aged(worker: Worker) -> str:
            if worker.put_back():
                return "killed and its state old"
            worker.keep_copy()
            return "killed and its state copied"

        await self._kill("worker_stale", aged)

    async def worker_term(self) -> None:
        """SIGTERM and start."""
        if worker := self._worker():
            took_s = await asyncio.to_thread(worker.stop)
            self._note("worker_term", f"{worker.name} ended in {took_s:.1f} s")
            worker.start()

    async def worker_freeze(self) -> None:
        """SIGSTOP until others own its partitions, then it goes on as if nothing was."""
        frozen_s = self._random.uniform(1, SESSION_S + 6)
        if worker := self._worker():
            self._note("worker_freeze", f"{worker.name} for {frozen_s:.1f} s")
            worker.pause()
            await asyncio.sleep(frozen_s)
            worker.resume()

    async def workers(self) -> None:
        """Another number of workers."""
        running = self._cluster.running()
        target = self._random.choice([n for n in range(1, self._cluster.most + 1) if n != len(running)])
        self._note("workers", f"{len(running)} to {target} workers")
        if target < len(running):
            leaving = self._random.sample(running, len(running) - target)
            await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in leaving))
        coming = [worker for worker in self._cluster.workers if not worker.is_wanted]
        for worker in coming[: max(0, target - len(running))]:
            worker.start()

    async def broker_kill(self) -> None:
        """SIGKILL and start on the same data."""
        down_s = self._randoms["broker"].uniform(0, 4)
        self._note("broker_kill", f"for {down_s:.1f} s")
        self._cluster.broker.kill()
        await asyncio.sleep(down_s)
        await asyncio.to_thread(self._cluster.broker.start)

    async def broker_freeze(self) -> None:
        """SIGSTOP and SIGCONT: connections stand and nothing answers."""
        frozen_s = self._randoms["broker"].uniform(0.5, 12)
        self._note("broker_freeze", f"for {frozen_s:.1f} s")
        self._cluster.broker.pause()
        await asyncio.sleep(frozen_s)
        self._cluster.broker.resume()

    async def postgres_kill(self) -> None:
        """SIGKILL and start on the same data."""
        down_s = self._randoms["postgres"].uniform(0, 5)
        self._note("postgres_kill", f"for {down_s:.1f} s")
        await asyncio.to_thread(self._cluster.kill_postgres)
        await asyncio.sleep(down_s)
        await asyncio.to_thread(self._cluster.postgres.start)

    async def postgres_sessions(self) -> None:
        """All sessions are terminated."""
        self._note("postgres_sessions", "all terminated")
        await self._cluster.end_sessions()


_FAULTS: dict[str, tuple[Callable[[Faults], Awaitable[None]], int]] = {
    "worker_kill": (Faults.worker_kill, 4),
    "worker_wiped": (Faults.worker_wiped, 2),
    "worker_stale": (Faults.worker_stale, 2),
    "worker_term": (Faults.worker_term, 2),
    "worker_freeze": (Faults.worker_freeze, 3),
    "workers": (Faults.workers, 3),
    "broker_kill": (Faults.broker_kill, 2),
    "broker_freeze": (Faults.broker_freeze, 2),
    "postgres_kill": (Faults.postgres_kill, 2),
    "postgres_sessions": (Faults.postgres_sessions, 1),
}
KINDS = tuple(_FAULTS)
