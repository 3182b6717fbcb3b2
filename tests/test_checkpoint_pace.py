"""When an epoch ends, and who waits for it."""

import asyncio

import pytest

import streamlens.checkpoint.pace as pace_module
from streamlens.checkpoint.pace import MAX_PENDING, Pace

_SOON_S = 10.0


@pytest.mark.parametrize(
    ("behind", "counted", "intervals"),
    [
        pytest.param([False], [1, 0], 1, id="caught up"),
        pytest.param([True] * 3 + [False], [1] * 5, 4, id="longer until it is no more"),
        pytest.param([True] * 99, [1] * 99, 8, id="but not for ever"),
        pytest.param([True] * 99, [1, 1, 0], 3, id="and not when nothing comes"),
        pytest.param([True] * 99, [MAX_PENDING], 1, id="nor when it is full"),
    ],
)
async def test_an_epoch_lasts_longer_far_behind(behind: list[bool], counted: list[int], intervals: int) -> None:
    pace, loop = Pace(), asyncio.get_running_loop()
    asked, more = iter(behind), iter(counted)
    began = loop.time()

    def count() -> None:
        if records := next(more):
            pace.counted(records)

    def is_behind() -> bool:
        loop.call_soon(count)
        return next(asked)

    loop.call_soon(count)
    await asyncio.wait_for(pace.end(0.01, is_behind), _SOON_S)
    assert len(behind) - len(list(asked)) in (intervals, intervals - 1)  # asked last, or not any more
    assert counted == [MAX_PENDING] or intervals * 0.01 * 0.9 <= loop.time() - began


@pytest.mark.parametrize(
    ("behind", "short"),
    [pytest.param(False, 5, id="some"), pytest.param(True, 1, id="far behind one: the others would write rows again")],
)
async def test_the_first_epochs_after_a_takeover_are_short(
    behind: bool, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace, waited = Pace(), list[float]()

    async def within(event: asyncio.Event, seconds: float) -> bool:
        waited.append(seconds)
        pace.counted(1)
        return event.is_set()

    monkeypatch.setattr(pace_module, "_within", within)
    pace.taken_over()
    for _ in range(6):
        await pace.end(0.5, lambda: behind)
    assert waited[: short + 1] == [0.1] * short + [0.5]


async def test_a_stage_that_follows_another_ends_its_epoch_after_what_has_come() -> None:
    pace, loop = Pace(follows=True), asyncio.get_running_loop()
    came = loop.call_later(0.1, pace.counted, 1)
    await asyncio.wait_for(pace.end(0.09, lambda: False), _SOON_S)
    assert loop.time() >= came.when() + pace_module._BURST_S * 0.9
    pace.ended()
    pace.counted(1)
    began = loop.time()
    await asyncio.wait_for(pace.end(1.0, lambda: False), _SOON_S)
    assert loop.time() - began >= pace_module._PAUSE * 0.9, "bursts of several workers share one epoch"
    pace.ended()
    await asyncio.wait_for(pace.end(0.01, lambda: False), _SOON_S)  # nothing comes


async def test_an_epoch_in_which_nothing_came_does_not_put_off_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, waits = Pace(follows=True), list[float]()
    monkeypatch.setattr(pace_module, "_within", lambda event, seconds: _waited(waits, seconds))
    pace._ended_s -= 3600
    await pace.end(60, lambda: False)
    pace.ended()
    pace.counted(1)
    await pace.end(60, lambda: False)
    assert waits[0] == waits[2] == 120
    assert 0 < waits[3] <= pace_module._BURST_S


async def _waited(waits: list[float], seconds: float) -> None:
    waits.append(seconds)


async def test_a_full_epoch_ends_at_once_and_agents_wait_until_it_has() -> None:
    pace = Pace()
    pace.counted(MAX_PENDING - 1)
    await asyncio.wait_for(pace.room(), _SOON_S)
    pace.counted(1)
    agent = asyncio.create_task(pace.room())
    await asyncio.wait_for(pace.end(3600, lambda: False), _SOON_S)
    assert not agent.done()
    pace.ended()
    await asyncio.wait_for(agent, _SOON_S)
    pace.counted(MAX_PENDING - 1)
    await asyncio.wait_for(pace.room(), _SOON_S)
