"""A row of windows: what `/v1/metrics` answers, and what is sent to those who listen."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from web.contract import Answer, Time


class MetricsRow(Answer, frozen=True, kw_only=True):
    """What happened in a window. `route` and `model` are null where rows are summed up over them; rows by a facet have
    `facet` and `value` instead. Numbers are null where there is nothing to measure; percentiles are nearest rank,
    within 1.1 %."""

    tenant_id: str
    route: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    facet: str | UnsetType = UNSET
    value: str | UnsetType = UNSET
    window_start: Time
    window_end: Time
    requests: int
    errors: int
    error_rate: float | None
    avg_latency_ms: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    min_latency_ms: float | None
    max_latency_ms: float | None
    p95_ttft_ms: float | None
    avg_prompt_tokens: float | None
    avg_completion_tokens: float | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated_cost_usd: Annotated[float | None, Meta(description="Of the priced calls; null when there is none")]
    priced: int
    partly_priced: Annotated[int, Meta(description="Of the priced ones, those with tokens of a kind without a price")]
    unpriced: int
    reported: Annotated[int, Meta(description="Of the priced ones, those that came with their cost")]
    price_versions: list[str]
    revision: Annotated[int, Meta(description="How often the row has changed; of merged rows, the sum")]
    final: Annotated[bool, Meta(description="All events that came in time are in")]
