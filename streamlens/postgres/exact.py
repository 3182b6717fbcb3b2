"""Reads `llm_metrics` back as it was written, for comparison with an oracle: the inverse of `PostgresStore.write`."""

from datetime import timedelta

import orjson

from streamlens.cell import Cell
from streamlens.postgres.connection import connect, unavailable
from streamlens.postgres.rows import EPOCH, MetricRow

_MICROSECOND = timedelta(microseconds=1)


async def exact_rows(dsn: str) -> list[MetricRow]:
    """All rows in the order of their keys, `cell` with every integer. Raises as `connect` does."""
    connection = await connect(dsn, statement_timeout_s=600)
    try:
        with unavailable():
            found = await connection.fetch("select * from llm_metrics order by tenant_id, route, model, window_start")
    finally:
        connection.terminate()
    return [
        MetricRow(
            tenant_id=row["tenant_id"],
            route=row["route"],
            model=row["model"],
            window_start_us=(row["window_start"] - EPOCH) // _MICROSECOND,
            window_us=(row["window_end"] - row["window_start"]) // _MICROSECOND,
            cell=Cell(
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
            ),
            revision=row["revision"],
            final=row["final"],
            version=(row["version"][0], row["version"][1]),
        )
        for row in found
    ]
