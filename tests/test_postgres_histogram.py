"""The SQL functions on histograms say what streamlens.histogram says."""

import random

import asyncpg
import pytest

from postgres_rows import MINUTE, NOON, cell, metric
from streamlens.cell import Cell
from streamlens.histogram import quantile
from streamlens.postgres.store import PostgresStore

QUANTILES = (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
LATENCIES = {
    "one value": [1_234_567],
    "zeros only": [0, 0, 0],
    "the lowest bucket": [1],
    "zeros and the lowest bucket": [0, 0, 1, 1],
    "the longest latency": [3_600_000_000] * 3,
    "bounds of buckets": [1 << n for n in range(32)],
    "a hundred calls": list(range(1, 101)),
}


def random_latencies(seed: int) -> list[int]:
    chance = random.Random(seed)
    return [int(chance.lognormvariate(12, 2)) * (chance.random() > 0.05) for _ in range(chance.randint(1, 400))]


CASES = LATENCIES | {f"random {seed}": random_latencies(seed) for seed in range(20)}


@pytest.mark.parametrize("latencies", CASES.values(), ids=CASES.keys())
async def test_quantiles_equal_those_of_python_and_are_within_the_promised_error(
    store: PostgresStore, latencies: list[int]
) -> None:
    content = cell(latencies)
    await store.write([metric(content)], [])
    by_sql = await store.pool.fetchval(
        """select array_agg(histogram_quantile(
               q, latency_zero, latency_index, latency_count, latency_min_us, latency_max_us) order by q)
           from llm_metrics, unnest($1::double precision[]) as q""",
        QUANTILES,
    )
    by_python = [
        quantile(q, content.latency_zero, content.latency, content.latency_min_us, content.latency_max_us)
        for q in QUANTILES
    ]
    assert by_sql == pytest.approx(by_python, rel=1e-12)
    exact = sorted(latencies)
    for q, value in zip(QUANTILES, by_sql, strict=True):
        rank = next(rank for rank in range(1, len(exact) + 1) if rank >= q * len(exact))
        assert value == pytest.approx(exact[rank - 1], rel=0.0109), q
    stored = await store.pool.fetchrow("select p50_latency_ms, p95_latency_ms, p99_latency_ms from llm_metrics")
    assert [value * 1000 for value in stored] == pytest.approx([by_sql[2], by_sql[4], by_sql[5]], rel=1e-12)


async def test_a_histogram_without_values_has_no_quantile(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("select histogram_quantile(0.5, 0, '{}', '{}')") is None
    merged = "select histogram_quantile(0.5, histogram_merge(latency_zero, latency_index, latency_count))"
    assert await connection.fetchval(f"{merged} from llm_metrics") is None
    await connection.close()


@pytest.mark.parametrize("workers", [0, 4])
async def test_merging_rows_equals_merging_cells_also_in_parallel(store: PostgresStore, workers: int) -> None:
    total = Cell(latency={}, ttft={}, error_types={})
    rows = []
    for number, latencies in enumerate(CASES.values()):
        content = cell(latencies)
        total.merge(content)
        rows.append(metric(content, window_start_us=NOON + number * MINUTE))
    await store.write(rows, [])
    async with store.pool.acquire() as connection:
        await connection.execute("analyze llm_metrics")  # it may last have been looked at when it was empty
        await connection.execute(f"set max_parallel_workers_per_gather = {workers}")
        await connection.execute("set parallel_setup_cost = 0; set parallel_tuple_cost = 0")
        # The pages that older rows have left make all plans cost about the same.
        await connection.execute("set min_parallel_table_scan_size = 0; set seq_page_cost = 0")
        query = "select histogram_merge(latency_zero, latency_index, latency_count) from llm_metrics"
        plan = await connection.fetch("explain " + query)
        assert any("Partial Aggregate" in line[0] for line in plan) == bool(workers)
        zero, buckets, counts = await connection.fetchval(query)
    assert zero == total.latency_zero
    assert list(zip(buckets, counts, strict=True)) == sorted(total.latency.items())
