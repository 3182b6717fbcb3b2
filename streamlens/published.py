"""A row of `/v1/metrics` as the topic `llm.metrics` carries it: the same names and units, made from a merged row."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from streamlens.histogram import quantile, quantiles
from streamlens.log import Record
from streamlens.postgres.rows import MetricRow

_PICO = 1e12


def metric_record(row: MetricRow) -> Record:
    """The record of one revision. Readers keep the highest `revision` of a key and window."""
    key = "|".join(_escaped(name) for name in (row.tenant_id, row.route, row.model))
    return Record(key.encode(), orjson.dumps(metric(row)))


def metric(row: MetricRow) -> dict[str, Any]:
    """The row's fields; latencies in milliseconds, cost in USD (None when nothing was priced)."""
    cell = row.cell
    calls = max(cell.calls, 1)
    latency = quantiles(_QS, cell.latency_zero, cell.latency, cell.latency_min_us, cell.latency_max_us)
    ttft = quantile(0.95, cell.ttft_zero, cell.ttft, cell.ttft_min_us, cell.ttft_max_us)
    return {
        "tenant_id": row.tenant_id,
        "route": row.route,
        "model": row.model,
        "window_start": _time(row.window_start_us),
        "window_end": _time(row.window_start_us + row.window_us),
        "requests": cell.calls,
        "errors": cell.errors,
        "error_rate": cell.errors / calls,
        "avg_latency_ms": cell.latency_sum_us / calls / 1000,
        "p50_latency_ms": _ms(latency[0]),
        "p95_latency_ms": _ms(latency[1]),
        "p99_latency_ms": _ms(latency[2]),
        "min_latency_ms": cell.latency_min_us / 1000,
        "max_latency_ms": cell.latency_max_us / 1000,
        "p95_ttft_ms": _ms(ttft),
        "avg_prompt_tokens": cell.prompt_tokens / calls,
        "avg_completion_tokens": cell.completion_tokens / calls,
        "prompt_tokens": cell.prompt_tokens,
        "completion_tokens": cell.completion_tokens,
        "cached_tokens": cell.cached_tokens,
        "cache_write_tokens": cell.cache_write_tokens,
        "reasoning_tokens": cell.reasoning_tokens,
        "estimated_cost_usd": cell.cost_pico / _PICO if cell.priced else None,
        "unpriced": cell.unpriced,
        "revision": row.revision,
        "final": row.final,
    }


_QS = (0.5, 0.95, 0.99)


def _ms(us: float | None) -> float | None:
    return None if us is None else us / 1000


@lru_cache(1024)
def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat().replace("+00:00", "Z")


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("|", "\\|")
