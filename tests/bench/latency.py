"""`latency`: from the moment an event is due until `GET /v1/metrics` shows it, under open-loop load on Kafka."""

import asyncio

from bench.asker import percentile
from bench.backlog import fill, forget
from bench.drain import drain, until_counted
from bench.ground import Ground
from bench.openloop import OpenLoop, Probes
from bench.options import Options
from bench.report import Report
from bench.traffic import Traffic

LOADS = (25, 50, 75)
"""Percent of what the pipeline drains on this machine; the generator, Kafka and Postgres have to share it."""
_WARM_S = 4.0
_WATCHED_S = 15.0
_PATIENCE_S = 5.0
"""So long the load goes on while the last ones are not seen."""
_GIVE_UP_S = 60.0
_SERIES = 100


async def latency(ground: Ground, report: Report, options: Options) -> None:
    """All loads, one after the other, in each run."""
    rate = await measured_rate(ground, options, _SERIES, 1_000_000)
    for run in range(options.runs):
        for load in LOADS:
            await _at(ground, report, options, load, rate * load / 100, run)
            await forget(ground.log)


async def measured_rate(ground: Ground, options: Options, series: int, events: int) -> float:
    """Events a second at which a backlog of so many drains; the topics are empty afterwards."""
    traffic = Traffic(series, options.seed)
    await fill(ground.log, traffic, options.events(events) // 2)
    worker = await ground.worker()
    try:
        rate = (await drain(worker, sent=traffic.sent))["events/s"]
    finally:
        worker.remove()
    await forget(ground.log)
    print(f"a backlog drains at {rate:,.0f} events/s", flush=True)
    return rate


async def _at(ground: Ground, report: Report, options: Options, load: int, rate: float, run: int) -> None:
    worker = await ground.worker()
    try:
        await asyncio.to_thread(worker.start)
        async with OpenLoop(ground.brokers, rate, _SERIES, run) as loop:
            probes, watched_s = Probes(loop, worker.url), options.seconds(_WATCHED_S)
            first, last = loop.sent_before(loop.began + _WARM_S), loop.sent_before(loop.began + _WARM_S + watched_s)
            await probes.watch(last, _WARM_S + watched_s + _PATIENCE_S)
        # What is behind is waited for: to leave out the slowest ones would flatter.
        assert await probes.watch(last, _GIVE_UP_S), "probes were not seen"
        probes.close()
        late_ms = [1000 * late_s for number, late_s in probes.seen if first <= number < last]
        report.add(
            "latency",
            f"{load} % load",
            {
                "events/s": rate,
                "p50 ms": percentile(late_ms, 50),
                "p95 ms": percentile(late_ms, 95),
                "p99 ms": percentile(late_ms, 99),
                "generator behind, ms": loop.said["behind_ms"],
                "generator's CPU %": loop.said["cpu"],
            },
        )
        await until_counted(worker, int(loop.said["events"]))
    finally:
        worker.remove()
