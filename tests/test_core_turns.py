"""When counting may hold the event loop, and for how many records."""

from collections.abc import AsyncIterator, Iterator
from itertools import accumulate, chain, repeat
from types import SimpleNamespace
from typing import Any

import pytest

import agents.join
from streamlens.log import TP, Run
from streamlens.turns import MAX_LAG, idle
from web.body import room

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
    assert seen == 0, "nobody has sent anything"
    with room(1):
        await idle(lambda: lag, lambda: next(times))
    assert seen == waited
    await idle(lambda: lag, lambda: next(times))
    assert seen == waited, "nobody waits any more"


@pytest.mark.parametrize(
    ("run", "pieces"),
    [
        pytest.param(Run(7, 7, []), [Run(7, 7, [])], id="nothing"),
        pytest.param(Run(7, 9, []), [Run(7, 9, [])], id="offsets without a record"),
        pytest.param(Run(7, 9, [b"a", b"b"], 5), [Run(7, 9, [b"a", b"b"], 5)], id="as many as may be"),
        pytest.param(
            Run(7, 15, [b"a", b"b", b"c", b"d", b"e"], 5),
            [Run(7, 9, [b"a", b"b"], 5), Run(9, 11, [b"c", b"d"], 5), Run(11, 15, [b"e"], 5)],
            id="more, with offsets without a record at the end",
        ),
    ],
)
def test_pieces_of_a_run_follow_each_other(run: Run, pieces: list[Run]) -> None:
    assert list(run.pieces(2)) == pieces


async def test_what_is_counted_at_once_is_small_and_waits_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    async def noted_idle(lag: object) -> None:
        done.append("idle")

    async def process(tp: TP, run: Run) -> None:
        done.append((tp, run.first, len(run.values)))

    async def events() -> AsyncIterator[Any]:
        yield SimpleNamespace(message=SimpleNamespace(tp=tp), value=Run(3, 603, [b""] * 600))

    tp = TP("llm.requests", 0)
    monkeypatch.setattr(agents.join, "idle", noted_idle)
    monkeypatch.setattr(agents.join.stage, "process", process)
    await agents.join.join.fun(SimpleNamespace(events=events))
    assert done == ["idle", (tp, 3, 250), "idle", (tp, 253, 250), "idle", (tp, 503, 100)]
