"""What a joined call used, the numbers that are priced and summed; `streamlens.quality` makes it of the two halves."""

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """The numbers of one call, such that prices and sums can rely on them.

    Cached and cache-write tokens are part of the prompt tokens, reasoning tokens of the completion tokens, and the time
    to the first token of the latency. Times in microseconds.
    """

    latency_us: int
    ttft_us: int | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    error_type: str | None
    warnings: tuple[str, ...] = ()
    """Names of `quality.RULES` that the call broke."""
