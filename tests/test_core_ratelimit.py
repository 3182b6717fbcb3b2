"""Token buckets: what passes, what waits and for how long, on a clock that the test moves."""

import pytest

from streamlens import ratelimit
from streamlens.ratelimit import RateLimit, RateLimited


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.mark.parametrize(
    ("takes", "outcomes"),
    [
        ([(0, 20), (0, 1)], [0, 1]),
        ([(0, 19), (0, 1), (0, 1)], [0, 0, 1]),
        ([(0, 20), (0.5, 1), (0.5, 1), (1, 2), (1, 1)], [0, 0, 1, 1, 0]),
        ([(0, 20), (0, 10)], [0, 5]),
        ([(0, 20), (5, 11), (5, 10)], [0, 1, 0]),
        ([(0, 20), (100, 20), (100, 1)], [0, 0, 1]),
        ([(0, 100), (0, 1), (49, 20), (50, 20)], [0, 41, 1, 0]),
        ([(0, 1), (0, 100), (0.5, 100)], [0, 1, 0]),
        ([(0, 0), (0, 20), (0, 0)], [0, 0, 0]),
    ],
    ids=[
        "ten seconds' worth at once, and no more",
        "one by one it is as much",
        "then as many as the rate gives",
        "more take longer",
        "what is refused takes nothing",
        "a bucket does not overflow",
        "more than a bucket holds passes when it is full, and is paid off",
        "but not before it is full",
        "nothing costs nothing",
    ],
)
def test_two_events_a_second(takes: list[tuple[float, int]], outcomes: list[int]) -> None:
    """Each take is (second, events), each outcome 0 or the seconds to wait."""
    clock = Clock()
    limit = RateLimit(2.0, clock)
    found = []
    for at_s, events in takes:
        clock.s = 1000.0 + at_s
        try:
            limit.take({"acme": events})
            found.append(0)
        except RateLimited as error:
            found.append(error.retry_after_s)
    assert found == outcomes


def test_tenants_do_not_share_and_a_body_of_several_is_taken_whole_or_not_at_all() -> None:
    limit = RateLimit(1.0, Clock())
    limit.take({"acme": 10})
    with pytest.raises(RateLimited):
        limit.take({"other": 3, "acme": 1})
    limit.take({"other": 10})


def test_less_than_one_event_a_second_passes_too() -> None:
    clock = Clock()
    limit = RateLimit(0.01, clock)
    limit.take({"acme": 1})
    with pytest.raises(RateLimited) as refused:
        limit.take({"acme": 1})
    assert refused.value.retry_after_s == 100
    clock.s += 100
    limit.take({"acme": 1})


def test_buckets_are_bounded_and_the_one_silent_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "MOST_BUCKETS", 3)
    limit = RateLimit(1.0, Clock())
    for tenant in ("a", "b", "c", "a", "d"):
        limit.take({tenant: 5})
    limit.take({"b": 10})  # forgotten, so full
    for tenant in ("a", "b"):
        with pytest.raises(RateLimited):
            limit.take({tenant: 10})
    limit.take({str(number): 1 for number in range(100)})
    assert len(limit._full_at) == 3
