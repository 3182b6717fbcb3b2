"""When an epoch ends, and who waits for it."""

import asyncio

import pytest

from streamlens.checkpoint.pace import MAX_PENDING, Pace

_SOON_S = 10.0


@pytest.mark.parametrize(("behind", "lasts_s"), [(0, 2.0), (MAX_PENDING, 2.0), (MAX_PENDING + 1, 8.0)])
def test_an_epoch_lasts_longer_far_behind(behind: int, lasts_s: float) -> None:
    assert Pace().next_s(2.0, behind) == lasts_s


@pytest.mark.parametrize("behind", [0, MAX_PENDING + 1])
def test_the_first_epochs_after_a_takeover_are_short(behind: int) -> None:
    pace = Pace()
    pace.taken_over()
    assert [pace.next_s(2.0, behind) for _ in range(5)] == [0.4] * 5
    assert pace.next_s(2.0, behind) >= 2.0


async def test_an_epoch_ends_by_the_clock() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await Pace().end(0.02, 0)
    assert loop.time() - began >= 0.018


async def test_a_full_epoch_ends_at_once_and_agents_wait_until_it_has() -> None:
    pace = Pace()
    pace.counted(MAX_PENDING - 1)
    await asyncio.wait_for(pace.room(), _SOON_S)
    pace.counted(1)
    agent = asyncio.create_task(pace.room())
    await asyncio.wait_for(pace.end(3600, 0), _SOON_S)
    assert not agent.done()
    pace.ended()
    await asyncio.wait_for(agent, _SOON_S)
    pace.counted(MAX_PENDING - 1)
    await asyncio.wait_for(pace.room(), _SOON_S)
