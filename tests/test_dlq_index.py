"""The index of the dead letters: each once, whoever follows the topic and whatever is written to it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import orjson
import pytest
from structlog.testing import capture_logs

from dlq_world import World, world
from streamlens import letterindex
from streamlens.deadletters import Letter, encode_letter
from streamlens.errors import Unavailable
from streamlens.letterindex import LetterIndex
from streamlens.log import TP, Record
from streamlens.postgres import letters
from streamlens.topics import CALLS, DEAD_LETTERS
from web_server import PARTITIONS

__all__ = ["world"]


def letter(offset: int, **fields: Any) -> Letter:
    time = datetime(2026, 9, 1, tzinfo=UTC)
    plain = Letter(topic=CALLS, partition=0, offset=offset, reason="invalid", time=time, value=b"x")
    return msgspec.structs.replace(plain, **fields)


async def publish(world: World, *records: bytes) -> None:
    await world.pipeline.log.append({TP(DEAD_LETTERS, 0): [Record(None, record) for record in records]})


async def test_what_is_no_letter_of_ours_is_passed_over(world: World) -> None:
    good = [encode_letter(letter(offset)) for offset in range(2)]
    foreign = [
        b"",
        b"\xff",
        b"{}",
        encode_letter(letter(2, topic="other")),
        encode_letter(letter(3, partition=1)),
        encode_letter(letter(-1)),
        orjson.dumps(orjson.loads(good[0]) | {"time": "2026-09-01T00:00:00", "offset": 4}),
        orjson.dumps(orjson.loads(good[0]) | {"time": "1960-01-01T00:00:00Z", "offset": 5}),
    ]
    odd = orjson.dumps(orjson.loads(good[0]) | {"offset": 6, "reason": "of\x00old", "detail": "\x00", "tenant_id": ""})
    await publish(world, good[0], *foreign, odd, good[1])
    await world.index.follow()
    assert sorted(each["offset"] for each in await world.letters()) == [0, 1, 6]


async def test_a_letter_that_is_published_twice_is_one(world: World) -> None:
    await publish(world, encode_letter(letter(7)), encode_letter(letter(7)))
    await world.index.follow()
    await publish(world, encode_letter(letter(7)))
    await world.index.follow()
    assert [each["offset"] for each in await world.letters()] == [7]
    await world.pipeline.log.delete_before(TP(DEAD_LETTERS, 0), 2)
    assert (await world.get(f"/v1/dlq/{CALLS}/0/7"))["value"] == "x", "the last one is shown"


async def test_a_row_that_points_to_another_letter_shows_nothing(world: World) -> None:
    """As after a topic that was cut and has grown again."""
    await publish(world, encode_letter(letter(0, value=b"of somebody else")), encode_letter(letter(1)))
    await world.index.follow()
    await world.pool.execute("update dead_letters set letter_offset = 0")
    assert (await world.site.http.get(f"/v1/dlq/{CALLS}/0/1")).status == 404
    assert await world.replay() == {"bad_again": 1, "gone": 1}


async def test_two_workers_and_a_new_one_take_each_letter_once(world: World) -> None:
    other = LetterIndex(world.pipeline.log, world.pool, lambda: range(PARTITIONS))
    for offset in range(6):
        await publish(world, encode_letter(letter(offset)))
        await (world.index, other)[offset % 2].follow()
    for each in (world.index, other):
        await each.follow()
        await each.follow()
    third = LetterIndex(world.pipeline.log, world.pool, lambda: [0])
    await third.follow()
    assert [each["offset"] for each in await world.letters()] == [5, 4, 3, 2, 1, 0]


async def test_a_long_topic_is_followed_piece_by_piece_and_a_new_worker_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letterindex, "READ_BYTES", 1)  # one append each time
    for offset in range(3):
        await publish(world, encode_letter(letter(offset)))
    for taken in (1, 2, 3, 3):
        await world.index.follow()
        assert (len(await world.letters()), await letters.position(world.pool, 0)) == (taken, taken)
    await publish(world, encode_letter(letter(3)))
    await LetterIndex(world.pipeline.log, world.pool, lambda: [0]).follow()
    assert len(await world.letters()) == 4


async def test_the_index_forgets_what_the_topic_has_deleted_and_goes_on_behind_it(world: World) -> None:
    await publish(world, *(encode_letter(letter(offset)) for offset in range(3)))
    await world.index.follow()
    await publish(world, *(encode_letter(letter(offset)) for offset in range(3, 8)))
    await world.pipeline.log.delete_before(TP(DEAD_LETTERS, 0), 5)
    await world.index.follow()
    assert [each["offset"] for each in await world.letters()] == [7, 6, 5]
    await world.pipeline.log.delete_before(TP(DEAD_LETTERS, 0), 8)
    assert (await world.site.http.get(f"/v1/dlq/{CALLS}/0/7")).status == 404
    assert await world.replay() == {"gone": 3}
    await world.index.follow()
    assert await world.letters() == []


async def test_what_goes_wrong_is_said_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letterindex, "_RETRY_S", 0.01)
    monkeypatch.setattr(letterindex, "_BROKEN_RETRY_S", 0.01)
    errors: list[Exception] = [Unavailable("away"), RuntimeError("a bug"), asyncpg.UndefinedTableError("not yet")]
    put = letters.put

    async def failing(*arguments: Any) -> None:
        if errors:
            raise errors.pop(0)
        await put(*arguments)

    monkeypatch.setattr(letters, "put", failing)
    await publish(world, encode_letter(letter(0)))
    with capture_logs() as logs:
        following = asyncio.create_task(world.index.run())
        async with asyncio.timeout(20):
            while not await world.letters():  # noqa: ASYNC110  # only Postgres knows
                await asyncio.sleep(0.01)
        following.cancel()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["dead letters are not indexed"]
