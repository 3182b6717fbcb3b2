"""Reads `llm_metrics` and `llm_facets` back as they were written, for comparison with an oracle: the inverse of
`PostgresStore.write`."""

from datetime import timedelta
from typing import Any

import asyncpg
import orjson

from streamlens.cell import Cell
from streamlens.postgres.connection import connect, unavailable
from streamlens.postgres.rows import EPOCH, FacetRow, MetricRow

_MICROSECOND = timedelta(microseconds=1)


async def exact_rows(dsn: str) -> list[MetricRow]:
    """All rows in the order of their keys, `cell` with every integer. Raises as `connect` does."""
    found = await _fetch(dsn, "select * from llm_metrics order by tenant_id, route, model, window_start")
    return [MetricRow(row["tenant_id"], row["route"], row["model"], **_measures(row)) for row in found]


async def exact_facets(dsn: str) -> list[FacetRow]:
    """The same of `llm_facets`."""
    found = await _fetch(dsn, "select * from llm_facets order by tenant_id, facet, value, window_start")
    return [FacetRow(row["tenant_id"], row["facet"], row["value"], **_measures(row)) for row in found]


async def _fetch(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await connect(dsn, statement_timeout_s=600)
    try:
        with unavailable():
            found: list[asyncpg.Record] = await connection.fetch(query)
            return found
    finally:
        connection.terminate()


def _measures(row: asyncpg.Record) -> dict[str, Any]:
    """What rows of both tables have besides their names."""
    return {
        "window_start_us": (row["window_start"] - EPOCH) // _MICROSECOND,
        "window_us": (row["window_end"] - row["window_start"]) // _MICROSECOND,
        "cell": _cell(row),
        "revision": row["revision"],
        "final": row["final"],
        "version": (row["version"][0], row["version"][1]),
    }


def _cell(row: asyncpg.Record) -> Cell:
    return Cell(
        calls=row["requests"],
        errors=row["errors"],
        latency_sum_us=row["latency_sum_us"],
        latency_min_us=row["latency_min_us"],
        latency_max_us=row["latency_max_us"],
        latency=dict(zip(row["latency_index"], row["latency_count"], strict=True)),
        latency_zero=row["latency_zero"],
        ttft_calls=row["ttft_requests"],
        ttft_sum_us=row["ttft_sum_us"],
        ttft_min_us=row["ttft_min_us"],
        ttft_max_us=row["ttft_max_us"],
        ttft=dict(zip(row["ttft_index"], row["ttft_count"], strict=True)),
        ttft_zero=row["ttft_zero"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cached_tokens=row["cached_tokens"],
        cache_write_tokens=row["cache_write_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        cost_pico=int((row["estimated_cost_usd"] or 0) * 10**12),
        priced=row["priced"],
        unpriced=row["unpriced"],
        error_types=orjson.loads(row["error_types"]),
        partly_priced=row["partly_priced"],
        reported=row["reported"],
        price_versions=orjson.loads(row["price_versions"]),
    )
