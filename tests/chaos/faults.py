"""What is broken, drawn from the seed, in lanes of their own for each part, so that faults overlap."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import NamedTuple

from chaos.cluster import Cluster
from chaos.failpoints import KILL, STEPS, STOP, VARIABLE, spell
from chaos.kafka import KafkaCluster
from chaos.worker import SESSION_S, Worker

LULLS_S = {
    "worker": (0.5, 6.0),
    "failpoint": (0.1, 1.0),
    "broker": (10.0, 25.0),
    "connections": (5.0, 15.0),
    "postgres": (5.0, 20.0),
}
"""The lanes, and how long each goes unharmed between two faults."""
_TWICE = "failpoint"
"""So many steps are to be struck that two workers at once are at it."""
_PATIENCE_S = 30.0
_STRIKES_WITHIN_S = 12.0
_FULL_WITHIN_S = 30.0
_EVERY_S = 0.05


class Faults:
    """Draws and makes them. `counts` and the printed lines are the log of a run."""

    def __init__(self, seed: int, cluster: Cluster, kinds: tuple[str, ...] = ()) -> None:
        """`kinds`: only these; all when empty. Those that need Kafka are left out where there is none."""
        self.counts: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        """How often each step of `STEPS` was struck."""
        self.missed: Counter[str] = Counter()
        self._cluster = cluster
        self._began = time.monotonic()
        on_kafka = isinstance(cluster, KafkaCluster)
        self._kinds = [kind for kind in kinds or KINDS if on_kafka or not _FAULTS[kind].on_kafka]
        self._randoms = {lane: Random(f"{lane}:{seed}") for lane in LULLS_S}
        self._held: set[str] = set()
        self._deck: list[str] = []

    async def run(self, until: float) -> None:
        """Break things until the monotonic clock shows `until`; returns when all are whole again."""
        async with asyncio.TaskGroup() as group:
            for lane in (*LULLS_S, *([_TWICE] if self._cluster.most > 1 else [])):
                group.create_task(self._strike(lane, until))

    async def _strike(self, lane: str, until: float) -> None:
        kinds = [name for name in self._kinds if _FAULTS[name].lane == lane]
        weights, random = [_FAULTS[name].weight for name in kinds], self._randoms[lane]
        while kinds:
            await asyncio.sleep(random.uniform(*LULLS_S[lane]))
            if time.monotonic() > until:
                return
            await _FAULTS[random.choices(kinds, weights)[0]].make(self, random)

    def _note(self, name: str, what: str) -> None:
        self.counts[name] += 1
        self._say(f"{name}: {what}")

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:8.1f} {what}", flush=True)

    @asynccontextmanager
    async def _one(self, random: Random) -> AsyncIterator[Worker | None]:
        """A worker that no other lane has in hand, as soon as there is one."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (free := [each for each in self._cluster.running() if each.name not in self._held]):
            if time.monotonic() > deadline:
                yield None
                return
            await asyncio.sleep(_EVERY_S)
        worker = random.choice(free)
        self._held.add(worker.name)
        try:
            yield worker
        finally:
            self._held.discard(worker.name)

    # -- workers ---------------------------------------------------------------------------------------------------

    async def _kill(self, name: str, random: Random, disk: Callable[[Worker], str]) -> None:
        down_s = random.uniform(0, 3) if random.random() < 0.7 else SESSION_S + 3
        async with self._one(random) as worker:
            if worker is None:
                return
            worker.kill()
            self._note(name, f"{worker.name} {disk(worker)} for {down_s:.1f} s")
            await asyncio.sleep(down_s)
            worker.start()

    async def worker_kill(self, random: Random) -> None:
        """SIGKILL; the disk is as it was."""

        def copied(worker: Worker) -> str:
            if random.random() < 0.3:
                worker.keep_copy()
            return "killed"

        await self._kill("worker_kill", random, copied)

    async def worker_wiped(self, random: Random) -> None:
        """SIGKILL; the state or the whole disk is lost."""
        whole = random.random() < 0.5 and isinstance(self._cluster, KafkaCluster)

        def wiped(worker: Worker) -> str:
            worker.wipe(whole=whole)
            return "killed and its disk lost" if whole else "killed and its state wiped"

        await self._kill("worker_wiped", random, wiped)

    async def worker_stale(self, random: Random) -> None:
        """SIGKILL; an old copy of the state is put back. The first time there is none, so one is made."""

        def aged(worker: Worker) -> str:
            if worker.put_back():
                return "killed and its state old"
            worker.keep_copy()
            return "killed and its state copied"

        await self._kill("worker_stale", random, aged)

    async def worker_term(self, random: Random) -> None:
        """SIGTERM and start."""
        async with self._one(random) as worker:
            if worker is not None:
                took_s = await asyncio.to_thread(worker.stop)
                self._note("worker_term", f"{worker.name} ended in {took_s:.1f} s")
                worker.start()

    async def worker_freeze(self, random: Random) -> None:
        """SIGSTOP until others own its partitions, then it goes on as if nothing was."""
        frozen_s = random.uniform(1, SESSION_S + 6)
        async with self._one(random) as worker:
            if worker is not None:
                self._note("worker_freeze", f"{worker.name} for {frozen_s:.1f} s")
                worker.pause()
                await asyncio.sleep(frozen_s)
                worker.resume()

    async def workers(self, random: Random) -> None:
        """Another number of workers."""
        running, most = self._cluster.running(), self._cluster.most
        target = random.choice([n for n in range(1, most + 1) if n != len(running) or most == 1])
        self._note("workers", f"{len(running)} to {target} workers")
        leaving = [worker for worker in running if worker.name not in self._held][: max(0, len(running) - target)]
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in leaving))
        self._come(target - len(running))

    def _come(self, more: int) -> list[Worker]:
        """Start so many that do not run; returns who came."""
        idle = [worker for worker in self._cluster.workers if not worker.is_wanted and worker.name not in self._held]
        coming = idle[: max(0, more)]
        for worker in coming:
            worker.start()
        return coming

    async def disk_full(self, random: Random) -> None:
        """The worker can't let its files grow: it must end by itself, and be right when it is started on a disk."""
        async with self._one(random) as worker:
            if worker is None:
                return
            worker.kill()
            limit = worker.largest_file_bytes() + random.randrange(50_000, 500_000)
            worker.start({"CHAOS_FILE_BYTES": str(limit)})
            code = await _until(worker.fate, _FULL_WITHIN_S)
            if code is None:
                worker.kill()
            else:
                worker.has_ended()
            said = worker.ends[-1] if code is not None else "did not come near it"
            self._note("disk_full", f"{worker.name}, files of {limit} bytes: {said}")
            worker.start()

    # -- failpoints ------------------------------------------------------------------------------------------------

    async def worker_failpoint(self, random: Random) -> None:
        """A worker strikes itself at a chosen step, and is started again or goes on as a zombie."""
        async with self._one(random) as worker:
            if worker is None:
                return
            if not self._deck:
                self._deck = [name for name, step in STEPS.items() if self._cluster.most > 1 or step.by != "rebalance"]
                random.shuffle(self._deck)
            name = self._deck.pop()
            step, number = STEPS[name], STOP if random.random() < 0.3 else KILL
            worker.kill()
            if step.by == "wiped":
                worker.wipe(whole=False)
            worker.start({VARIABLE: spell(name, number, random.randint(1, step.passes))})
            fate = await self._provoked(step.by, worker, random)
            if fate == number:
                self.struck[name] += 1
                self._note("worker_failpoint", f"{worker.name} {'frozen' if number == STOP else 'killed'}: {name}")
                await asyncio.sleep(SESSION_S + random.uniform(1, 5) if number == STOP else random.uniform(0, 2))
            else:
                self.missed[name] += 1
                self._deck.insert(0, name)  # once more, later
                self._say(f"worker_failpoint: {worker.name} was not struck: {name}")
            await self._disarm(worker, step.by, fate)

    async def _provoked(self, by: str, worker: Worker, random: Random) -> int | None:
        """Bring the step about. Returns the worker's fate, None while it runs at the deadline."""
        if by in ("term", "rebalance"):
            await _until(lambda: worker.is_ready() or worker.fate(), _STRIKES_WITHIN_S)
            if by == "term":
                worker.terminate()
            elif not self._come(1):
                async with self._one(random) as other:
                    if other is not None:
                        other.kill()
                        await _until(worker.fate, SESSION_S + 3)
                        other.start()
        return await _until(worker.fate, _STRIKES_WITHIN_S)

    async def _disarm(self, worker: Worker, by: str, fate: int | None) -> None:
        """Have it run as all others, whatever has become of it."""
        if fate == STOP:
            worker.resume()
            worker.is_armed = False
            if by != "term":
                return
            await asyncio.to_thread(worker.wait)
        elif fate not in (None, KILL) and not (fate == 0 and by == "term"):
            worker.has_ended()  # notes its last words
        worker.kill()
        worker.start()

    # -- broker and connections ------------------------------------------------------------------------------------

    async def broker_kill(self, random: Random) -> None:
        """SIGKILL and start on the same data."""
        down_s, broker = random.uniform(0, 4), self._kafka.broker
        self._note("broker_kill", f"for {down_s:.1f} s")
        broker.kill()
        await asyncio.sleep(down_s)
        await asyncio.to_thread(broker.start)

    async def broker_freeze(self, random: Random) -> None:
        """SIGSTOP and SIGCONT: connections stand and nothing answers."""
        frozen_s, broker = random.uniform(0.5, 12), self._kafka.broker
        self._note("broker_freeze", f"for {frozen_s:.1f} s")
        broker.pause()
        await asyncio.sleep(frozen_s)
        broker.resume()

    async def connections_cut(self, random: Random) -> None:
        """All connections of the workers break at once: to the broker, to PostgreSQL, or both."""
        proxies = {"the broker": self._kafka.connections, "PostgreSQL": self._cluster.sessions}
        names = random.choice([["the broker"], ["PostgreSQL"], [*proxies]])
        cut = sum([await asyncio.to_thread(proxies[name].cut) for name in names])
        self._note("connections_cut", f"{cut} to {' and '.join(names)}")

    async def answers_lost(self, random: Random) -> None:
        """The broker writes what workers send, and their connections close in place of its answers."""
        answers = random.randint(1, 4)
        self._note("answers_lost", f"the next {answers} of the broker to produce requests")
        self._kafka.connections.losing += answers

    @property
    def _kafka(self) -> KafkaCluster:
        assert isinstance(self._cluster, KafkaCluster)
        return self._cluster

    # -- PostgreSQL ------------------------------------------------------------------------------------------------

    async def postgres_kill(self, random: Random) -> None:
        """SIGKILL and start on the same data."""
        down_s = random.uniform(0, 5)
        self._note("postgres_kill", f"for {down_s:.1f} s")
        await asyncio.to_thread(self._cluster.kill_postgres)
        await asyncio.sleep(down_s)
        await asyncio.to_thread(self._cluster.postgres.start)

    async def postgres_sessions(self, random: Random) -> None:
        """All sessions are terminated."""
        self._note("postgres_sessions", "all terminated")
        await self._cluster.end_sessions()

    async def postgres_answers_lost(self, random: Random) -> None:
        """Transactions are committed, and the connections close in place of the answers that say so."""
        answers = random.randint(1, 3)
        self._note("postgres_answers_lost", f"the next {answers} to COMMIT")
        self._cluster.sessions.losing += answers


async def _until(look: Callable[[], int | None], within_s: float) -> int | None:
    """What `look` returns once that is not None or False, or at the deadline."""
    deadline = time.monotonic() + within_s
    while (seen := look()) is None or seen is False:
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(_EVERY_S)
    return seen


class _Fault(NamedTuple):
    make: Callable[[Faults, Random], Awaitable[None]]
    lane: str
    weight: int
    on_kafka: bool = False


_FAULTS = {
    "worker_kill": _Fault(Faults.worker_kill, "worker", 4),
    "worker_wiped": _Fault(Faults.worker_wiped, "worker", 2),
    "worker_stale": _Fault(Faults.worker_stale, "worker", 2),
    "worker_term": _Fault(Faults.worker_term, "worker", 2),
    "worker_freeze": _Fault(Faults.worker_freeze, "worker", 3),
    "worker_failpoint": _Fault(Faults.worker_failpoint, "failpoint", 1),
    "workers": _Fault(Faults.workers, "worker", 3, on_kafka=True),
    "disk_full": _Fault(Faults.disk_full, "worker", 1),
    "broker_kill": _Fault(Faults.broker_kill, "broker", 2, on_kafka=True),
    "broker_freeze": _Fault(Faults.broker_freeze, "broker", 2, on_kafka=True),
    "connections_cut": _Fault(Faults.connections_cut, "connections", 1, on_kafka=True),
    "answers_lost": _Fault(Faults.answers_lost, "connections", 2, on_kafka=True),
    "postgres_kill": _Fault(Faults.postgres_kill, "postgres", 2),
    "postgres_sessions": _Fault(Faults.postgres_sessions, "postgres", 1),
    "postgres_answers_lost": _Fault(Faults.postgres_answers_lost, "postgres", 2),
}
KINDS = tuple(_FAULTS)
