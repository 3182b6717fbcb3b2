"""Open-loop traffic beside a measurement, and when its probes become visible."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from bench.asker import Asker
from bench.backlog import PARTITIONS
from bench.baselines import TESTS
from bench.stream import PROBE, PROBE_S

_EVERY_S = 0.02


class OpenLoop:
    """Sends while it is used as an async context manager. `said` has at the end what the generator told."""

    def __init__(self, brokers: str, rate: float, series: int, seed: int) -> None:
        self.began = 0.0
        """Epoch seconds."""
        self.said: dict[str, float] = {}
        self._arguments = [brokers, str(rate), str(series), str(seed)]
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> "OpenLoop":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.stream", *self._arguments,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.began = float(await self._process.stdout.readline())
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        said = (await self._process.communicate())[0]
        if error is None:
            if self._process.returncode:
                raise RuntimeError("the generator could not go on: the brokers did not take its events in time")
            self.said = json.loads(said)

    def sent_before(self, at: float) -> int:
        """How many probes of each partition were due before the epoch second `at`."""
        return int((at - self.began) / PROBE_S) + 1


class Probes:
    """Counts the probes that `GET /v1/metrics` shows, by partition, and how late each was."""

    def __init__(self, loop: OpenLoop, url: str) -> None:
        self.seen: list[tuple[int, float]] = []
        """The number of each probe that was seen, and by how many seconds later than it was due."""
        self.visible = [0] * PARTITIONS
        self._loop = loop
        self._asker = Asker(url)
        self._path = f"/v1/metrics?tenant_id={PROBE}&from={int(loop.began // 60 * 60_000)}&limit=10000"

    def look(self) -> None:
        """Ask once."""
        counts = [0] * PARTITIONS
        for row in self._asker.json(self._path)["metrics"]:
            counts[int(row["route"])] += row["requests"]
        now = time.time()
        for partition, count in enumerate(counts):
            for number in range(self.visible[partition], count):
                self.seen.append((number, now - self._loop.began - number * PROBE_S))
            self.visible[partition] = count

    async def watch(self, count: int, within_s: float) -> bool:
        """Look every 20 ms until each partition shows `count` probes; False when it does not in time."""
        until = time.monotonic() + within_s
        while min(self.visible) < count:
            if time.monotonic() > until:
                return False
            await asyncio.to_thread(self.look)
            await asyncio.sleep(_EVERY_S)
        return True

    def close(self) -> None:
        self._asker.close()


async def until(condition: Callable[[], Any], what: str, within_s: float) -> float:
    """Await `condition` every 50 ms until it is true; the epoch second at which it was. Raises `TimeoutError`."""
    deadline = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(0.05)
    return time.time()
