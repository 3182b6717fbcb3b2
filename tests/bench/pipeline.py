"""`pipeline`, `series`, `local`: how fast a backlog drains, through join and windows to the last row in Postgres."""

import shutil

from bench.backlog import PARTITIONS, fill, forget
from bench.baselines import BASELINES, measure
from bench.drain import drain
from bench.ground import Ground
from bench.options import Options
from bench.profile import Profiler
from bench.report import Report
from bench.traffic import Traffic
from streamlens.locallog.local import LocalLog
from streamlens.topics import METRICS, PARTIALS

_FAST = ["events/s", "events/core-s"]


async def pipeline(ground: Ground, report: Report, options: Options) -> None:
    """100 series on Kafka, by one worker and by two, beside every baseline, then once more under a profiler."""
    traffic = await _filled(ground, options.events(2_000_000), 100, options)
    for _ in range(options.runs):
        await _kafka_run(ground, report, "pipeline", "streamlens", traffic)
        await _kafka_run(ground, report, "pipeline", "two workers", traffic, workers=2)
        for baseline in BASELINES:
            if figures := await measure(baseline, ground, 2 * traffic.sent.calls):
                report.add("pipeline", baseline.name, figures)
    report.compare("pipeline", "two workers", ["streamlens"], ["events/s"])
    report.compare("pipeline", "streamlens", [baseline.name for baseline in BASELINES], _FAST)
    if options.profile:
        await _profile(ground, report, traffic, options)
    await forget(ground.log)


async def series(ground: Ground, report: Report, options: Options) -> None:
    """The same with many more rows to write."""
    for count, events in ((10_000, 600_000), (100_000, 200_000)):
        traffic = await _filled(ground, options.events(events), count, options)
        for _ in range(options.runs):
            await _kafka_run(ground, report, "series", f"{count:,} series", traffic)
        await forget(ground.log)


async def local(ground: Ground, report: Report, options: Options) -> None:
    """100 series on the local log, 8 partitions as well."""
    filled = ground.directory / "filled"
    traffic = Traffic(100, options.seed, options.trace)
    log = LocalLog.open(filled, sync=False)
    await fill(log, traffic, options.events(2_000_000) // 2)
    await log.stop()
    for _ in range(options.runs):
        worker = await ground.worker(kafka=False)
        try:
            shutil.copytree(filled, worker.data_dir / "log")
            report.add("local", "streamlens", await drain(worker, sent=traffic.sent))
        finally:
            worker.remove()
    shutil.rmtree(filled)


async def _filled(ground: Ground, events: int, count: int, options: Options) -> Traffic:
    traffic = Traffic(count, options.seed, options.trace)
    print(f"filling {events:,} events of {count:,} series into {PARTITIONS} partitions", flush=True)
    await fill(ground.log, traffic, events // 2)
    return traffic


async def _kafka_run(ground: Ground, report: Report, part: str, case: str, traffic: Traffic, workers: int = 1) -> None:
    await forget(ground.log, (PARTIALS, METRICS))
    first = await ground.worker()
    shared = {"CONSUMER_GROUP": first.group, "POSTGRES_DSN": first.dsn}
    running = [first, *[await ground.worker(shared) for _ in range(1, workers)]]
    try:
        report.add(part, case, await drain(*running, sent=traffic.sent))
    finally:
        for worker in running:
            worker.remove()


async def _profile(ground: Ground, report: Report, traffic: Traffic, options: Options) -> None:
    """Where the CPU time goes. The profiler costs some itself, so this run counts for nothing else."""
    await forget(ground.log, (PARTIALS, METRICS))
    worker = await ground.worker()
    profiler = Profiler(worker, options.folded or ground.directory / "folded")
    try:
        await drain(worker, sent=traffic.sent, on_ready=profiler.start)
        report.add("pipeline", "share of CPU, %", profiler.shares())
    finally:
        worker.remove()
