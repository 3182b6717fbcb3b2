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
from pathlib import Path

import msgspec

from chaos.cluster import PARTITIONS, Cluster
from chaos.faults import KINDS, Faults
from chaos.generator import Generator
from chaos.reader import Reader
from chaos.verdict import caught_up, differences
from streamlens import logs
from streamlens.errors import Unavailable
from streamlens.log import TP, UNKNOWN_OFFSET, Record

_TURN_S = 0.1


class Result(msgspec.Struct, frozen=True):
    """What a run found. `faults` counts what was broken; `wrong` is empty when all is exact."""

    seed: int
    seconds: float
    events: int
    resent: int
    faults: Counter[str]
    said: Counter[str]
    restarts: list[str]
    polls: int
    wrong: list[str]


class Run:
    """One run from start to verdict."""

    def __init__(self, seed: int, minutes: float, workers: int, rate: float, kinds: tuple[str, ...] = ()) -> None:
        self._seed = seed
        self._seconds = minutes * 60
        self._kinds = kinds
        self._rate = rate
        self._directory = Path(tempfile.mkdtemp(prefix="streamlens-chaos-"))
        self._cluster = Cluster(self._directory, workers)
        self._reader = Reader()
        self._resent = 0

    async def result(self) -> Result:
        """Run. Leaves nothing behind, but the directory when something was wrong."""
        began, wrong = time.monotonic(), ["interrupted"]
        cluster, reader = self._cluster, self._reader
        self._faults = Faults(self._seed, cluster, self._kinds)
        polling: asyncio.Task[None] | None = None
        try:
            await cluster.start()
            generator = Generator(self._seed, self._rate, PARTITIONS, self._directory / "calls", _now_us())
            polling = asyncio.create_task(reader.run(cluster.dsn))
            await self._append(generator.first(_now_us()))
            if not (wrong := await caught_up(cluster, reader)):
                await self._break(generator)
                wrong = await caught_up(cluster, reader)
                await cluster.stop()
                wrong += [*reader.faults, *await differences(cluster, generator), *cluster.broken()]
        except AssertionError as error:
            wrong = [str(error)]
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
        seconds = time.monotonic() - began
        return Result(
            self._seed, seconds, generator.made, self._resent, self._faults.counts, said, ends, reader.polls, wrong
        )

    async def _break(self, generator: Generator) -> None:
        """Traffic and faults side by side; what has begun is sent to its end."""
        breaking = asyncio.create_task(self._faults.run(time.monotonic() + self._seconds))
        while not breaking.done():
            await self._append(generator.due(_now_us()))
            await asyncio.sleep(_TURN_S)
        await breaking
        await self._append(generator.rest())

    async def _append(self, batches: dict[TP, list[Record]]) -> None:
        """Append until acknowledged. What was sent again may be in the topic twice: one more duplicate."""
        while batches:
            self._reader.sent += sum(map(len, batches.values()))
            try:
                bases = await self._cluster.log.append(batches)
            except Unavailable:
                await asyncio.sleep(_TURN_S)
                continue
            batches = {tp: records for tp, records in batches.items() if bases[tp] == UNKNOWN_OFFSET}
            self._resent += sum(map(len, batches.values()))


def _now_us() -> int:
    return time.time_ns() // 1000


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--workers", type=int, default=3, help="at most so many at once")
    arguments.add_argument("--rate", type=float, default=800, help="events per second")
    arguments.add_argument("--only", nargs="*", default=[], choices=KINDS, help="only these faults")
    given = arguments.parse_args()
    logs.configure("text", level=40)
    print(f"seed {given.seed}, {given.minutes:g} minutes, up to {given.workers} workers", flush=True)
    run = Run(given.seed, given.minutes, given.workers, given.rate, tuple(given.only))
    result = asyncio.run(run.result())
    print(json.dumps({name: value for name, value in msgspec.to_builtins(result).items() if name != "wrong"}))
    for line in result.wrong[:50]:
        print(f"wrong: {line}")
    print(f"{len(result.wrong)} wrong" if result.wrong else "exact")
    sys.exit(bool(result.wrong))


if __name__ == "__main__":
    main()
