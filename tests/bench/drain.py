"""One timed run: workers count a backlog until its last row is in Postgres, and every row is what was sent."""

import asyncio
import time
from collections.abc import Callable, Sequence

import asyncpg

from bench.traffic import Sums
from bench.worker import Worker

_STUCK_S = 60.0
_EVERY_S = 0.05


async def drain(
    *workers: Worker, sent: Sums, orphans: int = 0, on_ready: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Start `workers`, which share a database, and wait until all calls of `sent` are in rows.

    Returns the figures of the time from the first `ready` on: the CPU time of all workers, the memory of the largest.
    `orphans` are requests beside them that have no response. Raises `AssertionError` when a row is not as sent.
    """
    starting = [asyncio.create_task(asyncio.to_thread(worker.start)) for worker in workers]
    await asyncio.wait(starting, return_when=asyncio.FIRST_COMPLETED)
    on_ready()
    began, cpu_began = time.monotonic(), _cpu_s(workers)
    await asyncio.gather(*starting)
    connection = await asyncpg.connect(workers[0].dsn)
    try:
        await _counted(connection, workers, 2 * sent.calls + orphans, sent.calls)
        seconds, cpu_s = time.monotonic() - began, _cpu_s(workers) - cpu_began
        rows = await connection.fetch(
            "select tenant_id, route, model, window_start, requests, prompt_tokens, completion_tokens, latency_sum_us"
            " from llm_metrics"
        )
    finally:
        await connection.close()
    wrong = sent.wrong(rows)
    assert not wrong, "\n".join(wrong)
    events = 2 * sent.calls + orphans
    return {
        "events/s": events / seconds,
        "events/core-s": events / cpu_s,
        "CPU-s/million": cpu_s / events * 1e6,
        "peak RSS MiB": max(worker.peak_rss_mb() for worker in workers),
    }


def _cpu_s(workers: Sequence[Worker]) -> float:
    return sum(worker.cpu_s() for worker in workers)


async def until_counted(worker: Worker, events: int) -> None:
    """Until the ledger has `events`. Raises `RuntimeError` when it stays at another number."""
    connection = await asyncpg.connect(worker.dsn)
    try:
        await _reached(connection, [worker], "select sum(received) from llm_ledger", events)
        refused = await connection.fetchval("select sum(duplicate + late + rejected) from llm_ledger")
        assert refused == 0, f"{refused} events were not counted, but all were new and good"
    finally:
        await connection.close()


async def _counted(connection: asyncpg.Connection, workers: Sequence[Worker], events: int, calls: int) -> None:
    """Until the ledger has all events and the rows all calls. The ledger is small, so it is what is watched."""
    await _reached(connection, workers, "select sum(received) from llm_ledger", events)
    await _reached(connection, workers, "select sum(requests) from llm_metrics", calls)


async def _reached(connection: asyncpg.Connection, workers: Sequence[Worker], question: str, expected: int) -> None:
    """Until it is that number. It can be more for a moment: a half leaves one row, and its call comes in another."""
    before, moved = -1, time.monotonic()
    while (found := await connection.fetchval(question) or 0) != expected:
        for worker in workers:
            worker.check_alive()
        if found != before:
            before, moved = found, time.monotonic()
        elif time.monotonic() > moved + _STUCK_S:
            raise RuntimeError(f"{question}: {found} of {expected}, and nothing moved for {_STUCK_S:g} s")
        await asyncio.sleep(_EVERY_S)
