"""Means of variants, and how they differ from a baseline's, with intervals and p-values that hold at every look.

A test for a fixed number of calls is wrong for whoever looks more than once. These are asymptotic confidence sequences
(Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 2024) and the p-values that belong to them: of the mixture sequential probability ratio
test with a normal mixture (Johari, Koomen, Pekelis and Walsh, "Always valid inference", Operations Research 2022).

For an estimate with standard error e of N calls, the mixture's variance is r e^2 with r = `_PER_CALL` N: a fixed
multiple of the variance of one call, chosen before any call is seen. Then, with z = estimate / e,

    p = sqrt(1 + r) exp(-r z^2 / (2 (1 + r)))        half width = e sqrt((1 + 1/r) (log(1 + r) - 2 log alpha))

Calls are taken for independent of each other, with a finite variance.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import exp, inf, log, log1p, sqrt

import msgspec

ALPHA = 0.05
"""How often, at most, a comparison that is looked at for ever is wrong."""
FEWEST = 30
"""Calls of a variant below which nothing is said of its mean: what is asymptotic needs some."""
TIGHTEST_AT = 1_000
"""The number of calls at which the intervals are as narrow as they can be; elsewhere they are little wider."""

_PER_CALL = (-2 * log(ALPHA) + log(1 - 2 * log(ALPHA))) / TIGHTEST_AT  # the first paper's rule for the narrowest

Interval = tuple[float, float]


class Sample(msgspec.Struct, frozen=True):
    """What was measured of one variant: how many values, their sum and the sum of their squares, all exact.

    Values lie in [`low`, `high`]. Of a share, `is_share`, they are 0 and 1.
    """

    count: int
    sum: int | Fraction
    squares: int | Fraction
    low: float = -inf
    high: float = inf
    is_share: bool = False

    @property
    def mean(self) -> float | None:
        """None without values."""
        return float(self.sum / self.count) if self.count else None

    @property
    def standard_deviation(self) -> float | None:
        """Of the values, with n - 1; None for fewer than two."""
        if self.count < 2:
            return None
        return sqrt((self.count * self.squares - self.sum * self.sum) / (self.count * (self.count - 1)))

    @property
    def error(self) -> float | None:
        """The standard error of the mean; None where it can't be told yet.

        That of a share is reckoned with one value of 1 and one of 0 more (Agresti and Caffo, The American Statistician
        2000): a hundred calls without an error do not say that there never is one.
        """
        deviation = self.standard_deviation
        if deviation is None or self.count < FEWEST:
            return None
        if self.is_share:
            share = float((self.sum + 1) / (self.count + 2))
            deviation = sqrt(share * (1 - share))
        return deviation / sqrt(self.count)


class Compared(msgspec.Struct, frozen=True):
    """One variant beside the baseline, whose own differences are None, as is what can't be told yet."""

    variant: str
    n: int
    mean: float | None
    standard_deviation: float | None
    interval: Interval | None
    difference: float | None = None
    relative_difference: float | None = None
    difference_interval: Interval | None = None
    p_value: float | None = None


def compare(samples: Mapping[str, Sample], baseline: str) -> list[Compared]:
    """Each variant, and its difference from `baseline`, which is one of `samples`.

    With several variants the differences are told with Bonferroni's correction, p-values and intervals alike, so that
    in `ALPHA` of all experiments at most any of them ever is wrong.
    """
    comparisons = max(1, len(samples) - 1)
    base = samples[baseline]
    return [
        _compared(name, sample, None if name == baseline else base, comparisons) for name, sample in samples.items()
    ]


def _compared(name: str, sample: Sample, base: Sample | None, comparisons: int) -> Compared:
    mean, error = sample.mean, sample.error
    interval = None
    if mean is not None and error is not None:
        low, high = _interval(mean, error, sample.count, ALPHA)
        interval = max(low, sample.low), min(high, sample.high)
    alone = Compared(name, sample.count, mean, sample.standard_deviation, interval)
    if base is None or mean is None or base.mean is None:
        return alone
    difference = mean - base.mean
    difference_interval, p = None, None
    if error is not None and base.error is not None:
        both, calls = sqrt(error**2 + base.error**2), sample.count + base.count
        difference_interval = _interval(difference, both, calls, ALPHA / comparisons)
        p = min(1.0, comparisons * p_value(difference, both, calls))
    return msgspec.structs.replace(
        alone,
        difference=difference,
        relative_difference=difference / abs(base.mean) if base.mean else None,
        difference_interval=difference_interval,
        p_value=p,
    )


def p_value(estimate: float, error: float, calls: int) -> float:
    """That an estimate of `calls` calls is of nothing: at any look it falls below p in p of all cases at most."""
    if error == 0:
        return 0.0 if estimate else 1.0
    r, z = _PER_CALL * calls, estimate / error
    power = log1p(r) / 2 - r * z * z / (2 * (1 + r))
    return 1.0 if power >= 0 else exp(power)


def _interval(estimate: float, error: float, calls: int, alpha: float) -> Interval:
    r = _PER_CALL * calls
    width = error * sqrt((1 + 1 / r) * (log1p(r) - 2 * log(alpha)))
    return estimate - width, estimate + width
