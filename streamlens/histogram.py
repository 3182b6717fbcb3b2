"""Base-2 exponential histogram of scale 5: the arithmetic of its buckets and quantiles.

The layout is OpenTelemetry's ExponentialHistogram and Prometheus' native histogram at scale 5: bucket i covers
(2^(i/32), 2^((i+1)/32)], so one representative value is wrong by 1.09 % at most. Buckets are sparse integer counts and
merge by addition. The SQL function `histogram_quantile` follows the same rules.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil, exp2, log2

SCALE = 5
_BUCKETS_PER_DOUBLING = 1 << SCALE
_ZERO = -2
"""Stands for the bucket of zeros: the lowest index of an integer above 0 is -1."""


def index(value: int) -> int:
    """The bucket of a value above 0, `ceil(log2(value) * 32) - 1`. Zero has a bucket of its own, outside of these."""
    return ceil(log2(value) * _BUCKETS_PER_DOUBLING) - 1


@lru_cache(4096)  # all buckets of 64 bits, and more
def representative(bucket: int) -> float:
    """The value that stands for a bucket: the harmonic mean of its bounds, where the relative error is smallest."""
    low = exp2(bucket / _BUCKETS_PER_DOUBLING)
    high = exp2((bucket + 1) / _BUCKETS_PER_DOUBLING)
    return 2 * low * high / (low + high)


def quantiles(
    qs: Sequence[float], zero: int, buckets: Mapping[int, int], low: float, high: float
) -> list[float | None]:
    """The quantiles `qs`, ascending, by nearest rank, `ceil(q * n)`, in the unit of the values; None without values.

    They are clamped to [low, high], the exact extremes of the values.
    """
    count = zero + sum(buckets.values())
    if count == 0:
        return [None] * len(qs)
    if low == high:
        return [float(low)] * len(qs)
    found: list[float | None] = []
    ascending = iter(sorted(buckets))
    seen, bucket = zero, _ZERO
    for q in qs:
        rank = ceil(q * count) or 1
        while seen < rank:
            bucket = next(ascending)
            seen += buckets[bucket]
        found.append(0.0 if bucket == _ZERO else min(max(representative(bucket), low), high))
    return found


def quantile(q: float, zero: int, buckets: Mapping[int, int], low: float, high: float) -> float | None:
    """One of `quantiles`."""
    return quantiles((q,), zero, buckets, low, high)[0]
