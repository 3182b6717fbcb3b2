"""`query`: how quickly questions are answered from a day and from thirty days of minute rows of 100 series."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import asyncpg

from bench.asker import Asker, percentile
from bench.ground import Ground
from bench.options import Options
from bench.report import Report
from bench.traffic import MINUTE_US, Names
from streamlens.cell import Cell
from streamlens.histogram import index
from streamlens.postgres.rows import METRIC_COLUMNS, MetricRow, time_of
from streamlens.postgres.store import PostgresStore

SERIES = 100
DAYS = (1, 30)
_MINUTES = 24 * 60
_CALLS = 30
"""In each row."""
_CELLS = 500
"""Different ones; rows repeat them."""
_ASKED = 20
_STATIC = Path(__file__).parents[2] / "web" / "static"


async def query(ground: Ground, report: Report, options: Options) -> None:
    """Rows of one day come through the real encoder, older days are copies of it."""
    worker = await ground.worker()
    try:
        await asyncio.to_thread(worker.start)
        now_us = time.time_ns() // 1000 // MINUTE_US * MINUTE_US
        filled = 0
        for days in (1, 3) if options.quick else DAYS:
            began = time.monotonic()
            await _fill(worker.dsn, now_us, filled, days)
            filled = days
            print(f"{days} days of rows are there after {time.monotonic() - began:.0f} s", flush=True)
            began = time.monotonic()
            await _add_up(worker.dsn, now_us)
            print(f"and their hours {time.monotonic() - began:.0f} s later", flush=True)
            for _ in range(options.runs):
                report.add("query", f"{days} days of rows", await asyncio.to_thread(_ask, worker.url, now_us))
    finally:
        worker.remove()


def _ask(url: str, now_us: int) -> dict[str, float]:
    """The 95th percentile of each question's time in milliseconds."""
    asker, hour, day, month = (
        Asker(url),
        *(f"from={(now_us - m * MINUTE_US) // 1000}" for m in (60, _MINUTES, 30 * _MINUTES)),
    )
    files = ("/", *sorted(f"/static/{path.name}" for path in _STATIC.iterdir() if path.suffix in (".css", ".js")))
    whole = f"/v1/metrics?{hour}&step=all&limit=2000&group_by="
    overview = (
        "/v1/tenants",
        f"/api/v1/analytics/dashboard?{hour}",
        f"/api/v1/analytics/requests/timeseries?{hour}&step=1m",
        f"{whole}model",
        f"{whole}route",
        f"/v1/errors/top?{hour}&limit=500",
        "/v1/dlq?limit=1000",
    )
    questions = {
        "the day's p95, one tenant": [f"/v1/metrics?tenant_id=tenant-1&{day}&step=1d&group_by=none"],
        "the day's p95, all tenants": [f"/v1/metrics?{day}&step=1d&group_by=none"],
        "the day's curve, one tenant": [f"/v1/metrics?tenant_id=tenant-1&{day}&step=5m&group_by=none&limit=300"],
        "thirty days, one tenant": [f"/v1/metrics?tenant_id=tenant-1&{month}&step=all&group_by=none"],
        "the page's files": files,
        "the page's questions, one after the other": overview,
        "the top errors": [f"/v1/errors/top?tenant_id=tenant-1&{day}"],
    }
    found = {}
    for name, paths in questions.items():
        try:
            times = [sum(asker.get(path)[0] for path in paths) for _ in range(_ASKED)]
        except RuntimeError as error:  # it takes too long, or this version does not know the question
            print(f"no figure for {name}: {error}", flush=True)
            continue
        found[f"{name}, p95 ms"] = 1000 * percentile(times, 95)
    asker.close()
    found["the page's questions, all at once, p95 ms"] = 1000 * percentile(_at_once(url, overview), 95)
    return found


def _at_once(url: str, paths: Sequence[str]) -> list[float]:
    """Seconds until all of them are answered, as the page asks them: each over a connection of its own."""
    askers, times = [Asker(url) for _ in paths], []
    with ThreadPoolExecutor(len(paths)) as threads:
        for _ in range(_ASKED):
            began = time.perf_counter()
            list(threads.map(Asker.get, askers, paths))
            times.append(time.perf_counter() - began)
    for asker in askers:
        asker.close()
    return times


async def _fill(dsn: str, now_us: int, filled: int, days: int) -> None:
    connection = await asyncpg.connect(dsn)
    if not filled:
        store = await PostgresStore.open(dsn)
        names, cells = Names(SERIES), _cells()
        for minute in range(_MINUTES):
            start_us = now_us - (minute + 1) * MINUTE_US
            rows = [
                MetricRow(*names[n], start_us, MINUTE_US, cells[(n * 7 + minute) % _CELLS], 1, True, (1, minute))
                for n in range(SERIES)
            ]
            await store.write(rows, [])
        await store.close()
        filled = 1
    columns = ", ".join(METRIC_COLUMNS.split())
    for day in range(filled, days):
        earlier = columns
        for name in ("window_start", "window_end"):
            earlier = earlier.replace(name, f"{name} - interval '{day} days'")
        await connection.execute(
            f"insert into llm_metrics ({columns}) select {earlier} from llm_metrics where window_start >= $1",
            time_of(now_us - _MINUTES * MINUTE_US),
        )
    await connection.execute("vacuum analyze llm_metrics")
    await connection.close()


async def _add_up(dsn: str, now_us: int) -> None:
    """Have the worker add up the hours anew: it may have begun before all of their rows were there."""
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await connection.execute("update llm_history set hours_until = 'epoch'")
        await connection.execute("truncate llm_metrics_hourly")
    due = time_of(now_us - 120 * MINUTE_US)
    while True:
        await asyncio.sleep(0.5)
        if await connection.fetchval("select hours_until from llm_history") >= due:
            break
    await connection.execute("vacuum analyze llm_metrics_hourly")
    await connection.close()


def _cells() -> list[Cell]:
    """Cells of `_CALLS` calls each, with latencies spread as the traffic's are."""
    random, made = Random(1), []
    for _ in range(_CELLS):
        tokens = [int(random.lognormvariate(4.9, 1.0)) for _ in range(_CALLS)]
        latencies = [200_000 + 25_000 * each for each in tokens]
        failed = sum(random.random() < 0.02 for _ in range(_CALLS))
        made.append(
            Cell(
                calls=_CALLS,
                errors=failed,
                latency_sum_us=sum(latencies),
                latency_min_us=min(latencies),
                latency_max_us=max(latencies),
                latency=dict(Counter(map(index, latencies))),
                prompt_tokens=1000 * _CALLS,
                completion_tokens=sum(tokens),
                cost_pico=10**7 * sum(tokens),
                priced=_CALLS,
                error_types={"timeout": failed} if failed else {},
            )
        )
    return made
