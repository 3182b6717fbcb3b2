"""`footprint`: memory and CPU of a worker at little traffic, and of `streamlens up` that has nothing to do."""

import asyncio
import time

from bench.backlog import forget
from bench.drain import until_counted
from bench.ground import Ground
from bench.openloop import OpenLoop
from bench.options import Options
from bench.report import Report
from bench.worker import Worker

RATES = (0, 1_000, 10_000)
_WARM_S = 5.0
_WATCHED_S = 12.0


async def footprint(ground: Ground, report: Report, options: Options) -> None:
    """On Kafka at each rate; on the local log, with its own PostgreSQL, at rest."""
    for run in range(options.runs):
        for rate in RATES:
            worker = await ground.worker()
            try:
                await asyncio.to_thread(worker.start)
                if rate:
                    async with OpenLoop(ground.brokers, rate, 100, run) as loop:
                        report.add("footprint", f"kafka, {rate:,} events/s", await _watched(worker, options))
                    await until_counted(worker, int(loop.said["events"]))
                else:
                    report.add("footprint", "kafka, at rest", await _watched(worker, options))
            finally:
                worker.remove()
            await forget(ground.log)
        up = Worker(ground.directory / f"up-{run}", "", {})
        with up:
            await asyncio.to_thread(up.start)
            report.add("footprint", "up, at rest, with its PostgreSQL", await _watched(up, options, family=True))


async def _watched(worker: Worker, options: Options, *, family: bool = False) -> dict[str, float]:
    """Of the process, or of it and all below it."""
    await asyncio.sleep(_WARM_S)
    cpu = worker.family_cpu_s if family else worker.cpu_s
    began, cpu_began = time.monotonic(), cpu()
    await asyncio.sleep(options.seconds(_WATCHED_S))
    return {
        "CPU, % of a core": 100 * (cpu() - cpu_began) / (time.monotonic() - began),
        "memory MiB": worker.family_mb() if family else worker.rss_mb(),
    }
