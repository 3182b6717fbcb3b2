"""The sums of calls that share a window and a series: what is added per call, merged per partition and stored.

All fields are integers, so the result does not depend on the order in which calls and cells are added.
"""

from math import ceil, log2
from typing import TypeVar

import msgspec

from streamlens.histogram import index
from streamlens.rates import Rates
from streamlens.usage import Usage

CARRY_PICO = 1 << 62


class Cell(msgspec.Struct, array_like=True, gc=False):
    """Counts and sums of calls. Latencies in microseconds, cost in pico-dollars; min and max are 0 without calls.

    `latency` and `ttft` are sparse histograms, bucket to count (`streamlens.histogram`), zeros counted apart.
    `priced` calls have a cost in `cost_pico` (possibly 0); `unpriced` ones have none. Of the priced, `reported` ones
    came with it, the others are in `price_versions` by the catalogue that had the price; `partly_priced` ones have
    tokens of a kind without a price of its own. New fields go to the end.
    """

    calls: int = 0
    errors: int = 0
    latency_sum_us: int = 0
    latency_min_us: int = 0
    latency_max_us: int = 0
    latency: dict[int, int] = {}
    latency_zero: int = 0
    ttft_calls: int = 0
    ttft_sum_us: int = 0
    ttft_min_us: int = 0
    ttft_max_us: int = 0
    ttft: dict[int, int] = {}
    ttft_zero: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_pico: int = 0
    priced: int = 0
    unpriced: int = 0
    error_types: dict[str, int] = {}
    partly_priced: int = 0
    reported: int = 0
    price_versions: dict[str, int] = {}
    cost_carried: int = 0
    """Of the cost, what `cost_pico` had no room for when it was stored, in units of `CARRY_PICO`."""

    @property
    def total_pico(self) -> int:
        """The cost of all priced calls."""
        return self.cost_carried * CARRY_PICO + self.cost_pico

    def add(self, used: Usage, cost_pico: int | None, rates: Rates | None) -> None:
        """Count one call. `cost_pico` is None when its price is not known, `rates` when it was reported or is None."""
        latency = used.latency_us
        if self.calls == 0 or latency < self.latency_min_us:
            self.latency_min_us = latency
        if latency > self.latency_max_us:
            self.latency_max_us = latency
        self.calls += 1
        self.latency_sum_us += latency
        if latency:
            bucket = ceil(log2(latency) * 32) - 1  # `histogram.index`, without a call
            buckets = self.latency
            if bucket in buckets:
                buckets[bucket] += 1
            else:
                buckets[bucket] = 1
        else:
            self.latency_zero += 1
        if used.ttft_us is not None:
            self._add_ttft(used.ttft_us)
        if used.error_type is not None:
            self.errors += 1
            self.error_types[used.error_type] = self.error_types.get(used.error_type, 0) + 1
        self.prompt_tokens += used.prompt_tokens
        self.completion_tokens += used.completion_tokens
        if used.cached_tokens:
            self.cached_tokens += used.cached_tokens
        if used.cache_write_tokens:
            self.cache_write_tokens += used.cache_write_tokens
        if used.reasoning_tokens:
            self.reasoning_tokens += used.reasoning_tokens
        if cost_pico is None:
            self.unpriced += 1
            return
        self.priced += 1
        self.cost_pico += cost_pico
        if rates is None:
            self.reported += 1
            return
        versions = self.price_versions
        versions[rates.version] = versions.get(rates.version, 0) + 1
        no_cached, no_cache_write, no_output = rates.unstated
        if (
            (no_cached and used.cached_tokens)
            or (no_cache_write and used.cache_write_tokens)
            or (no_output and used.completion_tokens)
        ):
            self.partly_priced += 1

    def _add_ttft(self, ttft: int) -> None:
        if self.ttft_calls == 0 or ttft < self.ttft_min_us:
            self.ttft_min_us = ttft
        if ttft > self.ttft_max_us:
            self.ttft_max_us = ttft
        self.ttft_calls += 1
        self.ttft_sum_us += ttft
        if ttft:
            bucket = index(ttft)
            self.ttft[bucket] = self.ttft.get(bucket, 0) + 1
        else:
            self.ttft_zero += 1

    def merge(self, other: "Cell") -> None:
        """Add the calls of `other` to these."""
        if other.calls:
            low = other.latency_min_us
            self.latency_min_us = min(self.latency_min_us, low) if self.calls else low
            self.latency_max_us = max(self.latency_max_us, other.latency_max_us)
        self.calls += other.calls
        self.latency_sum_us += other.latency_sum_us
        self.latency_zero += other.latency_zero
        _add_counts(self.latency, other.latency)
        if other.ttft_calls:
            low = other.ttft_min_us
            self.ttft_min_us = min(self.ttft_min_us, low) if self.ttft_calls else low
            self.ttft_max_us = max(self.ttft_max_us, other.ttft_max_us)
            self.ttft_calls += other.ttft_calls
            self.ttft_sum_us += other.ttft_sum_us
            self.ttft_zero += other.ttft_zero
            _add_counts(self.ttft, other.ttft)
        if other.errors:
            self.errors += other.errors
            _add_counts(self.error_types, other.error_types)
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.cached_tokens += other.cached_tokens
        self.cache_write_tokens += other.cache_write_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.unpriced += other.unpriced
        if other.priced:
            self.priced += other.priced
            self.cost_pico += other.cost_pico
            self.cost_carried += other.cost_carried
            self.partly_priced += other.partly_priced
            self.reported += other.reported
            _add_counts(self.price_versions, other.price_versions)

    def encode(self) -> bytes:
        """The stored form, MessagePack, which has no integer of more than 64 bits."""
        if self.cost_pico >= CARRY_PICO:
            carried, self.cost_pico = divmod(self.cost_pico, CARRY_PICO)
            self.cost_carried += carried
        return _encoder.encode(self)


Key = TypeVar("Key")


def _add_counts(mine: dict[Key, int], theirs: dict[Key, int]) -> None:
    for key, count in theirs.items():
        mine[key] = mine.get(key, 0) + count


_encoder = msgspec.msgpack.Encoder()
decode_cell = msgspec.msgpack.Decoder(Cell).decode
