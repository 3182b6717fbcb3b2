"""`recovery`: a worker with a large state is killed under load: until rows move again, and until it has caught up."""

import asyncio
import shutil
import time
from collections import deque

import asyncpg

from bench.backlog import PARTITIONS, append, fill_whole, put
from bench.drain import until_counted
from bench.ground import Ground
from bench.latency import measured_rate
from bench.openloop import OpenLoop, until
from bench.options import Options
from bench.report import Report
from bench.traffic import Traffic
from bench.worker import Worker
from streamlens.log import TP, Record
from streamlens.topics import INPUTS, REQUESTS

SERIES = 10_000
WAITING = 100_000
"""Requests without a response."""
_SETTLE_S = 6.0
_WITHIN_S = 120.0
_SHORT_S = 2.0
_LAST_COMMIT_S = 0.1
"""What the killed worker had told PostgreSQL to commit is committed by then, and the new one has not begun."""


async def recovery(ground: Ground, report: Report, options: Options) -> None:
    """Kill -9 at half of the drained rate; it is started again at once, on its disk and without it.

    It has a name that outlives its disk; without one the group waits for the lost member, the session time of 10 s.
    The ids come from whole calls of few series, which are counted while they are made; the load has all series, in the
    open windows.
    """
    rate = await measured_rate(ground, options, SERIES, 300_000) / 2
    traffic, waiting = Traffic(100, options.seed), options.events(WAITING)
    remembered = options.events(options.remembered)
    print(f"filling {remembered:,} calls, {waiting:,} requests that wait", flush=True)
    worker = await ground.worker({"STREAMLENS_MEMBER_ID": "named"})
    try:
        await asyncio.to_thread(worker.start)
        await fill_whole(ground.log, traffic, remembered)
        await _wait_for_ever(ground, waiting)
        await until_counted(worker, remembered + waiting)
        for run in range(options.runs):
            for wiped in (False, True):
                figures = await _kill(ground, worker, rate, run, wiped=wiped)
                report.add("recovery", "disk wiped" if wiped else "disk kept", {"events/s": rate} | figures)
    finally:
        worker.remove()


async def _wait_for_ever(ground: Ground, count: int) -> None:
    traffic, now_us = Traffic(1, "waiting"), time.time_ns() // 1000
    for first in range(0, count, 10_000):
        batches: dict[TP, list[Record]] = {}
        for _ in range(first, min(first + 10_000, count)):
            call = traffic.call(now_us)
            put(batches, REQUESTS, call.key, call.request.replace(b'"tenant-0"', b'"waiting"'))
        await append(ground.log, batches)


async def _kill(ground: Ground, worker: Worker, rate: float, run: int, *, wiped: bool) -> dict[str, float]:
    """One kill under load; returns when everything that was sent is counted."""
    async with OpenLoop(ground.brokers, rate, SERIES, 100 * run + wiped):
        lag = Lag(ground, worker, await asyncpg.connect(worker.dsn), rate)
        await until(lag.is_short, "rows steady before the kill", _WITHIN_S)
        await asyncio.sleep(_SETTLE_S)
        await until(lag.is_counted, "counted before the kill", _WITHIN_S)
        worker.kill()
        killed = time.time()
        if wiped:
            shutil.rmtree(worker.data_dir)
        worker.launch()
        await asyncio.sleep(_LAST_COMMIT_S)
        await lag.begin()
        first = await until(lag.has_moved, "a new row", _WITHIN_S)
        counted, seen = await asyncio.gather(
            until(lag.is_counted, "lag below one second", _WITHIN_S),
            until(lag.is_short, "rows of two seconds ago", _WITHIN_S),
        )
    await until_counted(worker, await lag.sent())
    await lag.connection.close()
    return {
        "first new row, s": first - killed,
        "lag below 1 s, s": counted - killed,
        "rows of 2 s ago, s": seen - killed,
    }


class Lag:
    """What is in the topics against what is counted, as seen from outside. Raises when the worker has ended.

    Two ends of the way are looked at. A record is counted, durably, when the group has committed its offset: that is
    the lag of Kafka's own tools, and it comes below a second of traffic. It can be seen when the ledger's rows are in
    PostgreSQL, an epoch of stage two later: that is about as late as p50 of `latency`, so two seconds are asked there.
    """

    def __init__(self, ground: Ground, worker: Worker, connection: asyncpg.Connection, rate: float) -> None:
        self.connection = connection
        self._ground = ground
        self._worker = worker
        self._tps = [TP(topic, partition) for topic in INPUTS for partition in range(PARTITIONS)]
        self._ends: deque[tuple[float, int]] = deque()
        self._before = 0
        self._second = rate
        self._one = asyncio.Lock()  # a connection answers one question at a time

    async def begin(self) -> None:
        """Count from here."""
        self._before = await self._received()
        self._ends.clear()

    async def has_moved(self) -> bool:
        """Whether more is counted than at `begin`."""
        await self._look()
        return await self._received() > self._before

    async def is_short(self) -> bool:
        """Whether all that was in the topics two seconds ago is counted."""
        await self._look()
        then, end = self._ends[0]
        return then <= time.time() - _SHORT_S and await self._received() >= end

    async def is_counted(self) -> bool:
        """Whether less than a second of traffic lies behind the offsets that the group has committed."""
        self._worker.check_alive()
        committed = await self._ground.log.committed(self._worker.group)
        offsets = await self._ground.log.offsets(self._tps)
        return sum(end - committed.get(tp, start) for tp, (start, end) in offsets.items()) < self._second

    async def sent(self) -> int:
        """How many records the topics hold; what was in them before `forget` is not among them."""
        return sum(end - start for start, end in (await self._ground.log.offsets(self._tps)).values())

    async def _look(self) -> None:
        self._worker.check_alive()
        self._ends.append((time.time(), await self.sent()))
        while len(self._ends) > 1 and self._ends[1][0] <= time.time() - _SHORT_S:
            self._ends.popleft()

    async def _received(self) -> int:
        async with self._one:
            return int(await self.connection.fetchval("select sum(received) from llm_ledger"))
