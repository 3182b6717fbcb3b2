"""The chaos suite: a cluster under traffic, broken all the time, must show exactly what was sent.

    make chaos MINUTES=60 SEED=7

Prints the seed and each fault. Exit code 1 and the differences when a row, the ledger or what a reader saw is wrong.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from chaos.cluster import PARTITIONS, Cluster
from chaos.faults import KINDS, Faults
from chaos.generator import Generator
from chaos.kafka import KafkaCluster
from chaos.local import LocalCluster
from chaos.reader import Reader
from chaos.verdict import caught_up, differences
from streamlens import logs
from streamlens.log import TP, Record

BROKERS: dict[str, type[Cluster]] = {"kafka": KafkaCluster, "local": LocalCluster}
_TURN_S = 0.1


class Result(msgspec.Struct, frozen=True):
    """What a run found. `faults` counts what was broken; `wrong` is empty when all is exact."""

    seed: int
    seconds: float
    events: int
    resent: int
    faults: Counter[str]
    struck: dict[str, int]
    """By the steps of failpoints."""
    missed: dict[str, int]
    said: Counter[str]
    hung: list[str]
    """Stops that took until their deadline, and what they waited for: slow, but not wrong."""
    restarts: list[str]
    polls: int
    wrong: list[str]


class Run:
    """One run from start to verdict."""

    def __init__(
        self,
        seed: int,
        minutes: float,
        workers: int,
        rate: float,
        kinds: tuple[str, ...] = (),
        *,
        environ: dict[str, str] | None = None,
        early: bool = False,
        broker: str = "kafka",
    ) -> None:
        """`environ` goes to all workers. `early`: end as soon as something is wrong, instead of after all minutes."""
        self._seed = seed
        self._seconds = minutes * 60
        self._kinds = kinds
        self._rate = rate
        self._directory = Path(tempfile.mkdtemp(prefix="streamlens-chaos-"))
        self._broker = broker
        self._cluster = BROKERS[broker](self._directory, workers if broker == "kafka" else 1, environ)
        self._early = early
        self._reader = Reader(lambda: self._cluster.sent)

    async def result(self) -> Result:
        """Run. Leaves nothing behind, but the directory when something was wrong."""
        began, wrong = time.monotonic(), ["interrupted"]
        cluster, reader = self._cluster, self._reader
        self._faults = faults = Faults(self._seed, cluster, self._kinds)
        generator = Generator(
            self._seed,
            self._rate,
            PARTITIONS,
            self._directory / "journal",
            _now_us(),
            has_poison=self._broker == "kafka",  # the API refuses it
        )
        polling: asyncio.Task[None] | None = None
        try:
            await cluster.start()
            polling = asyncio.create_task(reader.run(cluster.dsn))
            await self._append(generator.first(_now_us()))
            wrong = await caught_up(cluster, reader, self._is_wrong)
            if not wrong and not self._is_wrong():
                await self._break(generator)
                wrong = await caught_up(cluster, reader, self._is_wrong)
            if not self._is_wrong():
                await cluster.stop()
                wrong += await differences(cluster, generator)
            wrong += [*reader.faults, *cluster.broken()]
        except* AssertionError as group:
            wrong = [str(error) for error in group.exceptions]
        finally:
            said = cluster.said()
            if polling is not None:
                if polling.done():
                    wrong.append(f"the reader ended: {polling.exception()!r}")
                polling.cancel()
                await asyncio.gather(polling, return_exceptions=True)
            await cluster.remove(keep=bool(wrong))
            if wrong:
                print(f"kept: {self._directory}", flush=True)
        ends = [end for worker in cluster.workers for end in worker.ends]
        return Result(
            seed=self._seed,
            seconds=time.monotonic() - began,
            events=generator.made,
            resent=cluster.sent - generator.made,
            faults=faults.counts,
            struck=dict(sorted(faults.struck.items())),
            missed=dict(sorted(faults.missed.items())),
            said=said,
            hung=[line for worker in cluster.workers for line in worker.hung],
            restarts=ends,
            polls=reader.polls,
            wrong=wrong,
        )

    async def _break(self, generator: Generator) -> None:
        """Traffic and faults side by side; what has begun is sent to its end."""
        breaking = asyncio.create_task(self._faults.run(time.monotonic() + self._seconds))
        try:
            while not breaking.done() and not self._is_wrong():
                await self._append(generator.due(_now_us()))
                await asyncio.sleep(_TURN_S)
            if not self._is_wrong():
                await breaking
                await self._append(generator.rest())
        finally:
            breaking.cancel()
            await asyncio.gather(breaking, return_exceptions=True)

    def _is_wrong(self) -> bool:
        """Whether to end at once: the rest of the run could only say the same again."""
        return self._early and bool(self._reader.faults or self._cluster.broken())

    async def _append(self, batches: dict[TP, list[Record]]) -> None:
        """Append until acknowledged. What was sent again may be in the topic twice: one more duplicate."""
        left: Mapping[TP, Sequence[Record]] = batches
        while left:
            left = await self._cluster.append(left)
            if left:
                await asyncio.sleep(_TURN_S)


def _now_us() -> int:
    return time.time_ns() // 1000


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--workers", type=int, default=3, help="at most so many at once")
    arguments.add_argument("--rate", type=float, default=800, help="events per second")
    arguments.add_argument("--broker", default="kafka", choices=BROKERS)
    arguments.add_argument("--only", nargs="*", default=[], choices=KINDS, help="only these faults")
    given = arguments.parse_args()
    logs.configure("text", level=40)
    print(f"seed {given.seed}, {given.minutes:g} minutes, up to {given.workers} workers", flush=True)
    run = Run(given.seed, given.minutes, given.workers, given.rate, tuple(given.only), broker=given.broker)
    result = asyncio.run(run.result())
    print(json.dumps({name: value for name, value in msgspec.to_builtins(result).items() if name != "wrong"}))
    for line in result.wrong[:50]:
        print(f"wrong: {line}")
    print(f"{len(result.wrong)} wrong" if result.wrong else "exact")
    sys.exit(bool(result.wrong))


if __name__ == "__main__":
    main()
