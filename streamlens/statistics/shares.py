"""Whether variants get the shares of calls that they should: a sample ratio that is off spoils every comparison.

The sequential multinomial test of Lindon and Malek ("Anytime-valid inference for multinomial count data", NeurIPS
2022): the Bayes factor of a Dirichlet prior around the expected shares against these shares themselves. Its inverse is
a p-value that holds at every look, whatever the number of calls, as long as calls are assigned independently.
"""

from collections.abc import Mapping
from math import exp, lgamma, log

import msgspec

OK_FROM = 0.01
"""Below this p-value the shares are not those expected."""
CONCENTRATION = 100.0
"""Of the prior: shares that are off by a few hundredths are what it finds first."""


class SampleRatio(msgspec.Struct, frozen=True):
    """Shares that were `expected` (of 1), calls `observed`, and how well they agree."""

    expected: dict[str, float]
    observed: dict[str, int]
    p_value: float
    ok: bool


def sample_ratio(observed: Mapping[str, int], expected: Mapping[str, float] | None = None) -> SampleRatio:
    """Compare calls by variant with the shares expected: weights above 0, or equal ones of all that were observed.

    What has no expected share should have no calls; what has no calls was expected all the same.
    """
    weights = expected or dict.fromkeys(observed, 1.0)
    whole = sum(weights.values())
    names = sorted(observed.keys() | weights.keys())
    shares = {name: weights.get(name, 0.0) / whole for name in names}
    calls = {name: observed.get(name, 0) for name in names}
    p = _p_value(calls, shares)
    return SampleRatio(shares, calls, p, p >= OK_FROM)


def _p_value(calls: Mapping[str, int], shares: Mapping[str, float]) -> float:
    total = sum(calls.values())
    log_bayes_factor = lgamma(CONCENTRATION) - lgamma(CONCENTRATION + total)
    for name, count in calls.items():
        if count:
            if not shares[name]:
                return 0.0
            prior = CONCENTRATION * shares[name]
            log_bayes_factor += lgamma(prior + count) - lgamma(prior) - count * log(shares[name])
    return min(1.0, exp(-max(log_bayes_factor, 0.0)))
