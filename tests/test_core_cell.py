"""Cells and histograms: sums that do not depend on order or grouping, and quantiles within their bound."""

import math

from hypothesis import given
from hypothesis import strategies as st

from streamlens.cell import Cell, decode_cell
from streamlens.histogram import index, quantile, representative
from streamlens.join import RequestHalf, ResponseHalf, decode_half, encode_half
from streamlens.rates import Rates
from streamlens.usage import Usage

ERRORS = st.sampled_from([None, None, "timeout", "rate_limit"])
CATALOGUES = st.builds(
    lambda unstated, version: Rates(1, 1, 1, 1, 1, unstated=unstated, version=version),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.sampled_from(["old", "new"]),
)
PRICES = st.just((None, None)) | st.tuples(st.integers(0, 10**15), st.none() | CATALOGUES)
Call = tuple[Usage, int | None, Rates | None]
CALLS = st.lists(
    st.builds(
        lambda latency, ttft, prompt, completion, part, error, price: (
            Usage(latency, ttft, prompt, completion, *part, error),
            *price,
        ),
        st.integers(0, 3_600_000_000),
        st.none() | st.integers(0, 60_000_000),
        st.integers(0, 10_000_000),
        st.integers(0, 10_000_000),
        st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
        ERRORS,
        PRICES,
    ),
    max_size=40,
)


@given(CALLS, st.randoms())
def test_grouping_and_order_change_nothing(calls: list[Call], rng) -> None:
    whole = Cell()
    for call in calls:
        whole.add(*call)
    rng.shuffle(calls)
    parts = [Cell() for _ in range(3)]
    for call in calls:
        rng.choice(parts).add(*call)
    total = Cell()
    for part in parts:
        total.merge(decode_cell(part.encode()))
    assert total == whole
    latencies = [used.latency_us for used, *_ in calls]
    assert whole.calls == len(calls) == whole.priced + whole.unpriced
    assert whole.priced == whole.reported + sum(whole.price_versions.values())
    assert whole.latency_sum_us == sum(latencies)
    assert (whole.latency_min_us, whole.latency_max_us) == (min(latencies, default=0), max(latencies, default=0))
    assert sum(whole.latency.values()) + whole.latency_zero == len(calls)


@given(st.integers(1, 2**50))
def test_a_value_lies_in_its_bucket(value: int) -> None:
    bucket = index(value)
    assert 2 ** (bucket / 32) * (1 - 1e-12) <= value <= 2 ** ((bucket + 1) / 32) * (1 + 1e-12)
    assert abs(representative(bucket) - value) <= 0.0109 * value


def test_the_cost_of_many_dear_calls_has_room() -> None:
    dear = Usage(1, None, 0, 0, 0, 0, 0, None)
    cells = [Cell() for _ in range(3)]
    for cell in cells:
        for _ in range(100):
            cell.add(dear, 10**18, None)
    total = decode_cell(cells[0].encode())
    total.add(dear, 10**18, None)
    for cell in cells[1:]:
        total.merge(decode_cell(cell.encode()))
    assert decode_cell(total.encode()).total_pico == 301 * 10**18


def test_powers_of_two_are_upper_bounds() -> None:
    assert [index(2**n) for n in (0, 1, 10)] == [-1, 31, 319]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_quantiles_are_nearest_rank_within_the_bound(values: list[int], q: float) -> None:
    buckets: dict[int, int] = {}
    for value in values:
        if value:
            buckets[index(value)] = buckets.get(index(value), 0) + 1
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    found = quantile(q, values.count(0), buckets, min(values), max(values))
    assert found is not None
    assert abs(found - exact) <= 0.0109 * exact


def test_no_values_no_quantile() -> None:
    assert quantile(0.5, 0, {}, 0, 0) is None


def test_halves_survive_their_stored_form() -> None:
    request = RequestHalf(1, "t", "r", "m", None, 5)
    response = ResponseHalf(2, None, "m", None, 3, 4, 5, 6, 7, "timeout", 8)
    assert decode_half(encode_half(request)) == request
    assert decode_half(encode_half(response)) == response


def test_latency_without_a_given_one_is_the_difference_and_never_negative() -> None:
    response = ResponseHalf(2_000_000, None, None, None, None, 0, 0, 0, 0, None, None)
    assert (response.latency_after(500_000), response.latency_after(3_000_000)) == (1_500_000, 0)
