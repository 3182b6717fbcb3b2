"""Comparisons of variants: right by a known library, and right for whoever looks two hundred times."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import erfc, exp, hypot, inf, sqrt
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import integrate, stats

from streamlens.statistics.means import ALPHA, FEWEST, Compared, Sample, compare, p_value
from streamlens.statistics.shares import CONCENTRATION, OK_FROM, sample_ratio

RUNS, LOOKS, CALLS = 300, 200, 20_000
"""Experiments that are simulated, how often each is looked at, and the calls of each variant by its end."""
MANY = stats.binom.ppf(0.999, RUNS, ALPHA)
"""More runs than these go wrong in one of a thousand tests, if one run goes wrong in `ALPHA`."""
Values = np.ndarray[Any, np.dtype[np.int64]]
Draw = Callable[[np.random.Generator], Values]


def sample(values: list[int] | Values, **bounds: float | bool) -> Sample:
    exact = [int(value) for value in values]
    return Sample(len(exact), sum(exact), sum(value * value for value in exact), **bounds)  # type: ignore[arg-type]


# -- against a library -----------------------------------------------------------------------------------------------


def test_means_deviations_and_errors_are_the_librarys() -> None:
    random = np.random.default_rng(1)
    a, b = (random.lognormal(6, 1, size).astype(int) for size in (400, 900))
    base, other = compare({"a": sample(a), "b": sample(b)}, "a")
    assert (base.mean, base.standard_deviation) == pytest.approx((a.mean(), a.std(ddof=1)), rel=1e-12)
    assert (base.difference, base.difference_interval, base.p_value) == (None, None, None)
    welch = stats.ttest_ind(b, a, equal_var=False)
    error = sqrt(sample(a).error ** 2 + sample(b).error ** 2)  # type: ignore[operator]
    assert other.difference == pytest.approx(b.mean() - a.mean())
    assert other.difference / error == pytest.approx(welch.statistic, rel=1e-12)  # type: ignore[operator]
    assert other.relative_difference == pytest.approx(b.mean() / a.mean() - 1)


@pytest.mark.parametrize(("estimate", "error", "calls"), [(0.1, 1.0, 60), (2.5, 1.0, 1_000), (-40.0, 9.5, 70_000)])
def test_a_p_value_is_the_inverse_of_the_mixtures_likelihood_ratio(estimate: float, error: float, calls: int) -> None:
    ratio = 7.936 / 1_000 * calls

    def likelihood(mean: float) -> float:
        density: float = stats.norm.pdf(estimate, mean, error) * stats.norm.pdf(mean, 0, error * sqrt(ratio))
        return density

    reach = 12 * error * sqrt(1 + ratio)
    mixed, _ = integrate.quad(likelihood, -reach, reach, points=[estimate, 0], limit=500)
    expected = min(1.0, stats.norm.pdf(estimate, 0, error) / mixed)
    assert p_value(estimate, error, calls) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("calls", [[0, 0], [70, 30], [60, 40], [580, 350], [7_000, 3_200], [1_000_000, 0]])
def test_the_sample_ratios_p_value_is_the_librarys_bayes_factor(calls: list[int]) -> None:
    shares = np.array([0.7, 0.3])
    prior = stats.dirichlet_multinomial.logpmf(calls, CONCENTRATION * shares, sum(calls))
    found = sample_ratio(dict(zip("ab", calls, strict=True)), {"a": 7, "b": 3})
    factor = exp(min(0.0, stats.multinomial.logpmf(calls, sum(calls), shares) - prior))
    assert found.p_value == pytest.approx(factor, rel=1e-6, abs=1e-300)
    assert found.ok == (found.p_value >= OK_FROM)
    assert (found.expected, found.observed) == ({"a": 0.7, "b": 0.3}, dict(zip("ab", calls, strict=True)))


# -- rules -----------------------------------------------------------------------------------------------------------


def test_the_interval_excludes_zero_just_where_the_p_value_is_below_alpha() -> None:
    for variants in (2, 4):
        for shift in np.linspace(0, 60, 121):
            values = {name: sample([100, 300] * 200) for name in "bcd"[: variants - 2]}
            values |= {"a": sample([100, 300] * 200), "z": sample([100 + int(shift), 300 + int(shift)] * 200)}
            last = compare(values, "a")[-1]
            assert last.p_value is not None and last.difference_interval is not None
            assert (last.p_value < ALPHA) == (last.difference_interval[0] > 0)


def test_several_variants_are_corrected_for() -> None:
    two = {"a": sample([1, 3] * 300), "b": sample([1, 4] * 300)}
    _, alone = compare(two, "a")
    _, beside, _, _ = compare(two | {"c": sample([1, 3] * 300), "d": sample([1, 3] * 300)}, "a")
    assert alone.p_value is not None and beside.p_value == pytest.approx(3 * alone.p_value)
    assert beside.difference_interval[0] < alone.difference_interval[0]  # type: ignore[index]
    assert beside.interval == alone.interval


def test_nothing_is_said_of_too_few() -> None:
    none, one, few = Sample(0, 0, 0), sample([5]), sample([1, 2] * (FEWEST // 2 - 1))
    enough = sample([1, 2] * (FEWEST // 2))
    found = {each.variant: each for each in compare({"none": none, "one": one, "few": few, "all": enough}, "all")}
    assert found["none"] == Compared("none", 0, None, None, None)
    assert found["one"] == Compared("one", 1, 5.0, None, None, 3.5, pytest.approx(7 / 3))
    assert found["few"].interval is None and found["few"].p_value is None and found["few"].difference == 0
    assert found["all"].interval is not None


@pytest.mark.parametrize(
    ("values", "bounds", "low", "high"),
    [
        ([0] * 100, {"low": 0, "high": 1, "is_share": True}, 0.0, 0.038),
        ([1] * 100, {"low": 0, "high": 1, "is_share": True}, 0.962, 1.0),
        ([0] * 99 + [100], {"low": 0}, 0.0, 4.855),
        ([7] * 100, {}, 7.0, 7.0),
    ],
    ids=["a share of none is not known to be none", "nor one of all to be all", "bounded by what can be", "constant"],
)
def test_intervals_of_what_hardly_varies(values: list[int], bounds: dict[str, Any], low: float, high: float) -> None:
    (found,) = compare({"a": sample(values, **bounds)}, "a")
    assert found.interval == pytest.approx((low, high), abs=0.001)


@pytest.mark.parametrize(("other", "p"), [([7] * 50, 1.0), ([8] * 50, 0.0)])
def test_constants_differ_or_do_not(other: list[int], p: float) -> None:
    _, found = compare({"a": sample([7] * 50), "b": sample(other)}, "a")
    assert (found.p_value, found.difference_interval) == (p, (other[0] - 7.0, other[0] - 7.0))


def test_large_sums_lose_nothing() -> None:
    """A picodollar beside a dollar, as fractions of dollars."""
    high, low = Fraction(1) + Fraction(1, 10**12), Fraction(1)
    found = Sample(2, high + low, high * high + low * low)
    assert found.standard_deviation == pytest.approx(1e-12 / sqrt(2), rel=1e-9)
    assert (found.low, found.high) == (-inf, inf)


@pytest.mark.parametrize(
    ("observed", "expected", "ok"),
    [
        ({}, None, True),
        ({"a": 10_000}, None, True),
        ({"a": 5_050, "b": 4_950}, None, True),
        ({"a": 5_300, "b": 4_700}, None, False),
        ({"a": 9_000, "b": 1_000}, {"a": 0.9, "b": 0.1}, True),
        ({"a": 9_000, "b": 1_000}, {"a": 0.8, "b": 0.2}, False),
        ({"a": 500}, {"a": 1, "b": 1}, False),
        ({"a": 500, "b": 500, "c": 1}, {"a": 1, "b": 1}, False),
    ],
    ids=str,
)
def test_shares_that_are_off_are_found(observed: dict[str, int], expected: dict[str, float] | None, ok: bool) -> None:
    assert sample_ratio(observed, expected).ok is ok


# -- simulated, each experiment looked at two hundred times ----------------------------------------------------------


class Look(NamedTuple):
    """What is said of the second variant against the first, and what a test for one look only would say."""

    said: Compared
    naive: float


def looks(a: Values, b: Values, *, share: bool = False) -> Iterator[Look]:
    """At each of the looks at two variants whose calls come in turn."""
    ends = np.linspace(CALLS // LOOKS, CALLS, LOOKS).astype(int)
    sums = [np.cumsum((values, values * values), axis=1)[:, ends - 1].T.tolist() for values in (a, b)]
    for n, (total_a, squares_a), (total_b, squares_b) in zip(ends.tolist(), *sums, strict=True):
        base = Sample(n, total_a, squares_a, is_share=share)
        other = Sample(n, total_b, squares_b, is_share=share)
        _, said = compare({"a": base, "b": other}, "a")
        z = (total_b - total_a) / n / hypot(base.error or inf, other.error or inf)
        yield Look(said, erfc(abs(z) / sqrt(2)))


def latencies(random: np.random.Generator, slower: float = 1.0) -> Values:
    """Skewed as those of calls are, with a mean of `slower` * 1.65 s; in tenths of milliseconds."""
    return (slower * random.lognormal(0, 1, CALLS) * 1e4).astype(np.int64)


def failures(random: np.random.Generator) -> Values:
    return (random.random(CALLS) < 0.02).astype(np.int64)


@pytest.mark.parametrize(("draw", "share"), [(latencies, False), (failures, True)], ids=["latency", "error rate"])
def test_equal_variants_are_rarely_told_apart_however_often_one_looks(draw: Draw, share: bool) -> None:
    random = np.random.default_rng(7)
    alarms = naive = 0
    for _ in range(RUNS):
        seen = list(looks(draw(random), draw(random), share=share))
        alarms += any(look.said.p_value < ALPHA for look in seen)  # type: ignore[operator]
        naive += any(look.naive < ALPHA for look in seen)
    assert alarms <= MANY
    assert naive > RUNS / 3


def test_a_true_difference_is_found_and_within_the_interval_at_every_look() -> None:
    random, true = np.random.default_rng(8), 0.1 * exp(0.5) * 1e4
    found = missed = 0
    for _ in range(RUNS):
        intervals = [look.said.difference_interval for look in looks(latencies(random), latencies(random, 1.1))]
        found += intervals[-1][0] > 0  # type: ignore[index]
        missed += any(not low <= true <= high for low, high in intervals)  # type: ignore[misc]
    assert missed <= MANY
    assert found > 0.95 * RUNS


def test_shares_as_expected_raise_no_alarm_and_others_do_however_often_one_looks() -> None:
    random = np.random.default_rng(9)
    alarms = found = 0
    for _ in range(RUNS):
        for share in (0.5, 0.52):
            a = np.cumsum(random.random(CALLS) < share)[99 :: CALLS // LOOKS].tolist()
            totals = range(100, CALLS + 1, CALLS // LOOKS)
            off = any(not sample_ratio({"a": n, "b": total - n}).ok for n, total in zip(a, totals, strict=True))
            alarms, found = alarms + (off and share == 0.5), found + (off and share != 0.5)
    assert alarms <= stats.binom.ppf(0.999, RUNS, OK_FROM)
    assert found > 0.95 * RUNS
