"""Scores and tallies: sums that do not depend on order or grouping, however large; quantiles of both signs."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlens.scores import MILLION, Scores, decode_scores, encode_scores, quantiles
from streamlens.tally import Tally, decode_tally, encode_tally

SCORES = st.lists(st.tuples(st.none() | st.floats(-1e9, 1e9), st.none() | st.sampled_from("abc")), max_size=40)


@given(SCORES, st.randoms())
def test_grouping_and_order_of_evaluations_change_nothing(
    found: list[tuple[float | None, str | None]], rng: Random
) -> None:
    whole, parts = Scores(), [Scores() for _ in range(3)]
    for one in found:
        whole.add(*one)
    rng.shuffle(found)
    for one in found:
        rng.choice(parts).add(*one)
    total = Scores()
    for part in parts:
        total.merge(decode_scores(encode_scores(part)))
    assert total == whole
    values = [round(score * MILLION) for score, _ in found if score is not None]
    assert (whole.count, whole.scored, whole.sum) == (len(found), len(values), sum(values))
    assert (whole.low, whole.high) == (min(values, default=0), max(values, default=0))
    assert whole.zero + sum(whole.positive.values()) + sum(whole.negative.values()) == len(values)


@given(st.lists(st.integers(-(10**21), 10**21), max_size=40), st.randoms())
def test_grouping_and_order_of_tallies_change_nothing(values: list[int], rng: Random) -> None:
    whole, parts = Tally(), [Tally() for _ in range(3)]
    for value in values:
        whole.add(value)
    rng.shuffle(values)
    for value in values:
        rng.choice(parts).add(value)
    total = Tally()
    for part in parts:
        total.merge(decode_tally(encode_tally(part)))
    assert total == whole == Tally(len(values), sum(values), min(values, default=0), max(values, default=0))


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=60), st.sampled_from((0.0, 0.05, 0.5, 0.95, 1.0)))
def test_a_quantile_is_that_of_the_sorted_scores_within_its_bound(values: list[int], q: float) -> None:
    scores = Scores()
    for value in values:
        scores.add(value / MILLION, None)
    (found,) = quantiles((q,), scores.negative, scores.zero, scores.positive, scores.low, scores.high)
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    assert found == pytest.approx(exact, rel=0.0110)


def test_without_scores_there_is_no_quantile() -> None:
    assert quantiles((0.5, 0.9), {}, 0, {}, 0, 0) == [None, None]
