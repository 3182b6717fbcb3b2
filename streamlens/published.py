"""A row of `/v1/metrics` as the topic `llm.metrics` carries it: the same names and units, made from a merged row."""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from streamlens.log import Record
from streamlens.postgres.rows import MetricRow

_PICO = 1e12


class Metric(msgspec.Struct, frozen=True, gc=False):
    """The fields, in the order in which they are written. Latencies in milliseconds; None: without values."""

    tenant_id: str
    route: str
    model: str
    window_start: str
    window_end: str
    requests: int
    errors: int
    error_rate: float
    avg_latency_ms: float
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    min_latency_ms: float
    max_latency_ms: float
    p95_ttft_ms: float | None
    avg_prompt_tokens: float
    avg_completion_tokens: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated_cost_usd: float | None
    """None when nothing was priced."""
    priced: int
    partly_priced: int
    unpriced: int
    reported: int
    price_versions: list[str]
    revision: int
    final: bool


def metric_record(row: MetricRow) -> Record:
    """The record of one revision. Readers keep the highest `revision` of a key and window."""
    return Record(metric_key(row.tenant_id, row.route, row.model), _encode(metric(row)))


def metric(row: MetricRow) -> Metric:
    """What the row says."""
    cell = row.cell
    calls = cell.calls or 1
    p50, p95, p99, p95_ttft = row.percentiles_ms
    return Metric(
        row.tenant_id,
        row.route,
        row.model,
        _time(row.window_start_us),
        _time(row.window_start_us + row.window_us),
        cell.calls,
        cell.errors,
        cell.errors / calls,
        cell.latency_sum_us / calls / 1000,
        p50,
        p95,
        p99,
        cell.latency_min_us / 1000,
        cell.latency_max_us / 1000,
        p95_ttft,
        cell.prompt_tokens / calls,
        cell.completion_tokens / calls,
        cell.prompt_tokens,
        cell.completion_tokens,
        cell.cached_tokens,
        cell.cache_write_tokens,
        cell.reasoning_tokens,
        cell.total_pico / _PICO if cell.priced else None,
        cell.priced,
        cell.partly_priced,
        cell.unpriced,
        cell.reported,
        sorted(cell.price_versions),
        row.revision,
        row.final,
    )


def metric_key(tenant_id: str, route: str, model: str) -> bytes:
    """The record's key: the names with a bar between them."""
    if "|" in (names := tenant_id + route + model) or "\\" in names:
        tenant_id, route, model = _escaped(tenant_id), _escaped(route), _escaped(model)
    return f"{tenant_id}|{route}|{model}".encode()


_encode = msgspec.json.Encoder().encode


@lru_cache(1024)
def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat().replace("+00:00", "Z")


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("|", "\\|")
