"""`ingest`: events a second over HTTP, until they are durable, while the same process counts them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import asyncpg

from bench.asker import Asking, percentile
from bench.backlog import PARTITIONS, forget
from bench.baselines import TESTS
from bench.ground import Ground
from bench.options import Options
from bench.report import Report
from bench.worker import Worker
from process_server import free_port
from streamlens.log import TP
from streamlens.topics import INPUTS

_WAYS = (("single", 30_000, 64), ("bulk", 400_000, 4))
"""How, how many events, over how many connections."""
_COUNTED_S = 60.0
_QUESTION = "/v1/metrics?tenant_id=tenant-1&limit=60"


async def ingest(ground: Ground, report: Report, options: Options) -> None:
    """StreamLens on Kafka and on the local log, beside a bare handler on the same Kafka."""
    for run in range(options.runs):
        for kafka in (True, False):
            worker = await ground.worker(kafka=kafka)
            try:
                await asyncio.to_thread(worker.start)
                await _streamlens(worker, report, options, "kafka" if kafka else "local log", run)
            finally:
                worker.remove()
            await forget(ground.log)
        async with _bare(ground) as url:
            await _baseline(ground, url, report, options, run)
        await forget(ground.log)
    for way, *_ in _WAYS:
        report.compare("ingest", f"{way}, kafka", [f"{way}, bare aiohttp"], ["events/s", "answer p95 ms"])


async def _streamlens(worker: Worker, report: Report, options: Options, log: str, run: int) -> None:
    sent = 0
    for number, (way, count, connections) in enumerate(_WAYS):
        count = options.events(count)
        cpu_began = worker.cpu_s()
        asking = Asking(worker.url, _QUESTION, 0.05)
        with asking if way == "bulk" else nullcontext():
            figures = await _load(worker.url, way, count, connections, 10 * run + number)
        cpu_s = worker.cpu_s() - cpu_began
        sent += count
        await _all_counted(worker, sent)
        figures["CPU-s/million"] = cpu_s / count * 1e6
        if way == "bulk":
            figures["GET /v1/metrics p95 ms"] = percentile(asking.seconds, 95) * 1000
        report.add("ingest", f"{way}, {log}", figures)


async def _baseline(ground: Ground, url: str, report: Report, options: Options, run: int) -> None:
    for number, (way, count, connections) in enumerate(_WAYS):
        count, before = options.events(count), await _records(ground)
        report.add("ingest", f"{way}, bare aiohttp", await _load(url, way, count, connections, 10 * run + number))
        there = await _records(ground) - before
        assert there == count, f"{there} of {count} events are in Kafka"


async def _load(url: str, way: str, count: int, connections: int, seed: int) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", url, way, str(count), str(connections), str(seed),
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    figures: dict[str, float] = json.loads(said)
    return figures


async def _all_counted(worker: Worker, events: int) -> None:
    """What was answered with 202 is counted, each event once."""
    connection = await asyncpg.connect(worker.dsn)
    question = "select coalesce(sum(received), 0)::bigint, coalesce(sum(aggregated), 0)::bigint from llm_ledger"
    try:
        async with asyncio.timeout(_COUNTED_S):
            while (found := tuple(await connection.fetchrow(question))) != (events, events):
                worker.check_alive()
                assert found[0] <= events, f"{found[0]} events counted, {events} sent"
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


@asynccontextmanager
async def _bare(ground: Ground) -> AsyncIterator[str]:
    """The URL of the baseline, which runs meanwhile."""
    port = str(free_port())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.baseline_aiohttp", ground.brokers, port,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None and await process.stdout.readline() == b"ready\n", (
            "the baseline did not start"
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def _records(ground: Ground) -> int:
    tps = [TP(topic, partition) for topic in INPUTS for partition in range(PARTITIONS)]
    return sum(end for _, end in (await ground.log.offsets(tps)).values())
