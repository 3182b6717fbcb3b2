"""Replays of dead letters: what is sent, what is remembered, and what counts, once."""

from datetime import UTC, datetime
from typing import Any

import pytest

from dlq_world import EVENTS, World, call, our_bug, world
from pipeline import SECOND
from streamlens.deadletters import Letter, encode_letter
from streamlens.errors import Unavailable
from streamlens.log import TP, UNKNOWN_OFFSET, Record
from streamlens.partitioner import partition_of
from streamlens.postgres import letters
from streamlens.topics import CALLS, DEAD_LETTERS, REQUESTS
from web_server import PARTITIONS

__all__ = ["our_bug", "world"]


async def test_what_was_bad_because_of_us_counts_after_the_fix_and_once(
    world: World, our_bug: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await world.pipeline.send_raw("call", call(f"r{number}"), f"r{number}")
    await world.settle()
    assert world.outcomes() == {"received": 5, "rejected": 5}
    our_bug.undo()
    assert await world.replay("?dry_run=true") == {"sent": 5}
    assert world.sent(CALLS) == 5, "and sends nothing"
    assert await world.replay() == {"sent": 5}
    await world.settle()
    assert (world.calls(), world.outcomes()) == (5, {"received": 10, "rejected": 5, "aggregated": 5})
    assert {each["replayed_at"] is None for each in await world.letters()} == {False}
    assert await world.replay() == {}
    assert await world.replay("?again=true") == {"sent": 5}
    await world.settle()
    assert (world.calls(), world.outcomes()["duplicate"]) == (5, 5)


async def test_an_event_goes_where_it_was_under_its_key(world: World, our_bug: pytest.MonkeyPatch) -> None:
    tp = TP(REQUESTS, 3)
    assert partition_of(b"r0", PARTITIONS) != 3, "a producer with another partitioner"
    raw = call("r0").replace(b",", b" , ")
    await world.pipeline.log.append({tp: [Record(b"r0", raw)]})
    await world.settle()
    our_bug.undo()
    assert await world.replay() == {"sent": 1}
    assert world.pipeline.log.read_now(tp, 1).values == [raw]
    (stored,) = world.pipeline.log._partitions[tp].batches(1)
    assert stored.keys() == [b"r0"]


async def test_a_replay_goes_on_where_the_call_before_has_stopped(world: World, our_bug: pytest.MonkeyPatch) -> None:
    for number in range(7):
        world.pipeline.clock.at(number // 3)  # several of one time
        await world.pipeline.send_raw("call", call(f"r{number}"), f"r{number}")
        await world.settle()
    our_bug.undo()
    for query, each in (("again=false", [3, 3, 1]), ("again=true", [3, 3, 1])):
        world.pipeline.clock.us += SECOND
        after, sent = "", []
        while after is not None:
            _, body = await world.post(f"?limit=3&{query}&after={after}")
            after = body["next"]
            sent.append(body["sent"])
        assert sent == each
    await world.settle()
    assert (world.calls(), world.outcomes()["duplicate"]) == (7, 7)


async def test_a_selection_is_replayed_and_nothing_else(world: World, our_bug: pytest.MonkeyPatch) -> None:
    await world.pipeline.send_raw("call", call("r0"), "r0")
    await world.pipeline.send_raw("call", call("r1", route="acme", tenant_id="globex"), "r1")
    await world.settle()
    our_bug.undo()
    assert await world.replay("?reason=late") == {}
    assert await world.replay("?tenant_id=globex") == {"sent": 1}
    await world.settle()
    assert {tenant for tenant, _ in world.pipeline.calls()} == {"globex"}


async def test_what_would_be_late_or_bad_again_is_told_and_not_sent(world: World) -> None:
    await world.pipeline.send("call", 0, "good")
    await world.pipeline.idle(60)
    for reason, raw in EVENTS.items():
        await world.pipeline.send_raw("call", raw, reason)
    await world.settle()
    before = world.sent(CALLS)
    expected = {"late_again": 1, "bad_again": 3}
    assert await world.replay() == await world.replay() == expected
    assert world.sent(CALLS) == before
    assert {each["replayed_at"] for each in await world.letters()} == {None}
    world.pipeline.clock.at(3600 - 59)
    assert await world.replay("?reason=future") == {"sent": 1}, "its time has come"
    world.pipeline.clock.at(3600 + 60 + 3600 + 30)
    assert await world.replay("?reason=future&again=true") == {"late_again": 1}, "and gone"
    await world.settle()
    assert world.outcomes()["aggregated"] == 2


async def test_what_is_bad_again_all_the_same_does_not_multiply(world: World, our_bug: pytest.MonkeyPatch) -> None:
    """The worker that reads is older than the one that is asked: it rejects what the other one sends."""
    for number in range(2):
        await world.pipeline.send_raw("call", call(f"r{number}"), f"r{number}")
    await world.settle()
    counts = []
    for query in ("", "", "?again=true", "?again=true", "?again=true"):
        counts.append(await world.replay(query))
        await world.settle()
    assert counts == [{"sent": 2}, {}, {"sent": 2, "same": 2}, {"sent": 2, "same": 4}, {"sent": 2, "same": 6}]
    assert len(await world.letters()) == 2 + 2 + 3 * 2
    our_bug.undo()
    assert await world.replay() == {}
    await world.replay("?again=true")
    await world.settle()
    assert world.calls() == 2


async def test_what_is_broken_off_between_sending_and_remembering_counts_once(
    world: World, our_bug: pytest.MonkeyPatch
) -> None:
    await world.pipeline.send_raw("call", call("r0"), "r0")
    await world.settle()
    our_bug.undo()

    async def broken(*_: Any) -> None:
        raise Unavailable("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(letters, "mark", broken)
        assert (await world.post())[0] == 503
    await world.settle()
    assert (world.sent(CALLS), world.calls()) == (2, 1)
    assert await world.replay() == {"sent": 1}
    assert await world.replay() == {}
    await world.settle()
    assert (world.calls(), world.outcomes()["duplicate"]) == (1, 1)


async def test_what_the_log_does_not_confirm_is_not_remembered(world: World, our_bug: pytest.MonkeyPatch) -> None:
    ids = [f"r{number}" for number in range(8)]
    for each in ids:
        await world.pipeline.send_raw("call", call(each), each)
    await world.settle()
    our_bug.undo()
    append, lost = world.pipeline.log.append, TP(CALLS, partition_of(b"r0", PARTITIONS))

    async def unsure(batches: Any) -> Any:
        return await append(batches) | {lost: UNKNOWN_OFFSET}

    world.pipeline.log.append = unsure
    status, problem = await world.post()
    del world.pipeline.log.append
    assert (status, "repeated counts once" in problem["detail"]) == (503, True)
    again = sum(partition_of(each.encode(), PARTITIONS) == lost.partition for each in ids)
    assert 0 < again < len(ids)
    assert await world.replay() == {"sent": again}
    await world.settle()
    assert (world.calls(), world.outcomes()["duplicate"]) == (len(ids), again)


async def test_events_with_the_same_bytes_are_sent_once(world: World, our_bug: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await world.pipeline.send_raw("call", call("r0"), "r0")
    await world.settle()
    our_bug.undo()
    assert await world.replay() == {"sent": 1, "same": 2}
    assert await world.replay() == {}
    await world.settle()
    assert (world.calls(), world.outcomes()) == (1, {"received": 4, "rejected": 3, "aggregated": 1})


async def test_what_this_replay_has_sent_it_does_not_send_again(world: World, our_bug: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await world.pipeline.send_raw("call", call("r0"), "r0")
    await world.settle()
    our_bug.undo()
    for query in ("again=false", "again=true"):
        world.pipeline.clock.us += SECOND
        after: str | None = ""
        sent = 0
        while after is not None:
            body = (await world.post(f"?limit=1&{query}&after={after}"))[1]
            after, sent = body["next"], sent + body["sent"]
        assert sent == 1


async def test_what_was_late_stays_so_whatever_the_lateness_is_now(world: World) -> None:
    """Its minute's row is closed for good, and its marks are gone."""
    time = datetime(2026, 9, 1, tzinfo=UTC)
    letter = Letter(topic=CALLS, partition=0, offset=0, reason="late", time=time, value=call("r0"))
    await world.pipeline.log.append({TP(DEAD_LETTERS, 0): [Record(None, encode_letter(letter))]})
    await world.index.follow()
    assert await world.replay() == {"late_again": 1}
