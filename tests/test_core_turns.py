"""When counting may hold the event loop."""

from collections.abc import Iterator
from itertools import accumulate, chain, repeat

import pytest

from streamlens.turns import MAX_LAG, idle

_BUSY, _IDLE = 0.01, 0.0001
"""Seconds that a turn of the loop takes."""


@pytest.mark.parametrize(
    ("turns", "lag", "waited"),
    [
        pytest.param([], 0, 3, id="nobody else: the turns that are needed to see it"),
        pytest.param([_BUSY, _BUSY], 0, 5, id="while others work"),
        pytest.param([_BUSY, _IDLE, _IDLE, _BUSY], 0, 7, id="while others work with a rest in between"),
        pytest.param([_BUSY] * 99, 0, 5, id="but not for ever"),
        pytest.param([_BUSY] * 99, MAX_LAG + 1, 1, id="and for nobody far behind"),
        pytest.param([_IDLE, _IDLE, _BUSY] * 99, MAX_LAG, 15, id="up to there all the same"),
    ],
)
async def test_a_run_waits_until_the_loop_is_idle(turns: list[float], lag: int, waited: int) -> None:
    seen = 0

    def clock() -> Iterator[float]:
        nonlocal seen
        for seen, now in enumerate(accumulate(chain([0.0], turns, repeat(_IDLE)))):  # noqa: B007  # read below
            yield now

    times = clock()
    await idle(lambda: lag, lambda: next(times))
    assert seen == waited
