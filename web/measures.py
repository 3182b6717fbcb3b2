"""What rows of windows measure: the fields that all of them share, however they are grouped."""

from typing import Annotated

from msgspec import Meta

from web.contract import Answer


class Measures(Answer, frozen=True, kw_only=True):
    """Null where there is nothing to measure. Percentiles are nearest rank, within 1.1 %."""

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
