"""When an epoch ends, and who waits for it."""

import asyncio

import pytest

from streamlens.checkpoint.pace import MAX_PENDING, Pace

_SOON_S = 10.0


@pytest.mark.parametrize(("behind", "intervals"), [(0, 1), (MAX_PENDING, 1), (MAX_PENDING + 1, 4)])
async def test_an_epoch_lasts_longer_far_behind(behind: int, intervals: int) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await Pace().end(0.02, behind)
    assert intervals * 0.02 * 0.9 <= loop.time() - began
    if intervals == 1:
        return
    waiting = asyncio.create_task(Pace().end(3600, behind))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


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
