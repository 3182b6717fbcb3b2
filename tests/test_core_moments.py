"""The sums of a variant: exact, however large, and the same in whatever order and grouping."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from streamlens.moments import Moments, Variant, decode_variant, encode_variant
from streamlens.usage import Usage

CALL = st.tuples(
    st.integers(0, 3_600_000_000),
    st.none() | st.integers(0, 10**9),
    st.integers(0, 10**7),
    st.none() | st.just("timeout"),
    st.none() | st.integers(0, 10**18),
)
SCORE = st.tuples(st.sampled_from("ab"), st.floats(-1e9, 1e9))


def add(to: Variant, measured: tuple[object, ...]) -> None:
    match measured:
        case (str(name), float(score)):
            to.add_score(name, score)
        case (int(latency), ttft, int(tokens), error, cost):
            to.add(Usage(latency, ttft, tokens, 1, 0, 0, 0, error), cost)  # type: ignore[arg-type]


@given(st.lists(CALL | SCORE, max_size=40), st.randoms())
def test_grouping_and_order_change_nothing(measured: list[tuple[object, ...]], rng: Random) -> None:
    whole, parts = Variant(), [Variant() for _ in range(3)]
    for one in measured:
        add(whole, one)
    rng.shuffle(measured)
    for one in measured:
        add(rng.choice(parts), one)
    total = Variant()
    for part in parts:
        total.merge(decode_variant(encode_variant(part)))
    assert total == whole
    ttfts = [one[1] for one in measured if len(one) == 5 and one[1] is not None]
    assert total.ttft_us == Moments(len(ttfts), sum(ttfts), sum(ttft**2 for ttft in ttfts))  # type: ignore
    costs = [one[4] for one in measured if len(one) == 5 and one[4] is not None]
    assert total.cost_pico == Moments(len(costs), sum(costs), sum(cost**2 for cost in costs))  # type: ignore


def test_only_what_has_values_is_a_measure() -> None:
    variant = Variant()
    variant.add(Usage(1500, None, 3, 4, 0, 0, 0, "timeout"), None)
    variant.add_score("truth", -0.5)
    assert {name: (digits, m.count, m.sum, m.squares) for name, digits, m in variant.measures()} == {
        "latency_ms": (3, 1, 1500, 2_250_000),
        "error_rate": (0, 1, 1, 1),
        "tokens": (0, 1, 7, 49),
        "score:truth": (6, 1, -500_000, 250_000_000_000),
    }


def test_what_an_older_version_has_stored_is_read() -> None:
    """Fields that came later have their defaults."""
    assert decode_variant(b"[[2,1,1]]") == Variant(errors=Moments(2, 1, 1))
