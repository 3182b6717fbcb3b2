"""The index of the dead letters: what `streamlens.dlq` holds, by time, reason and tenant, and what was sent again.

Functions take the pool of `PostgresStore` and raise `Unavailable` when Postgres is down.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import asyncpg
import msgspec
from msgspec import Meta

from streamlens.deadletters import Letter
from streamlens.events import time_us
from streamlens.fields import MAX_TIME_US
from streamlens.postgres.connection import reader, transaction
from streamlens.postgres.rows import time_of

_FORGET_ROWS = 5_000

_PUT = """
    insert into dead_letters (topic, partition, origin_offset, letter_offset, reason, tenant_id, field, detail,
        found_at, size_bytes, truncated, digest)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    on conflict (topic, partition, origin_offset) do update set letter_offset = excluded.letter_offset"""
_POSITION = "select value::bigint from streamlens_meta where key = $1"
_MOVE = """
    insert into streamlens_meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value"""
_FORGET = """
    delete from dead_letters where ctid = any(array(
        select ctid from dead_letters where partition = $1 and letter_offset < $2 limit $3))"""
_FORGET_REPLAYS = "delete from dead_letter_replays where replayed_at < (select min(found_at) from dead_letters)"
_ROWS = """
    select topic, partition, origin_offset, letter_offset, reason, tenant_id, field, detail, found_at, size_bytes,
        truncated, digest, replayed_at
    from dead_letters left join dead_letter_replays using (topic, digest)"""
_MARK = """
    insert into dead_letter_replays (topic, digest, replayed_at) values ($1, $2, $3)
    on conflict (topic, digest) do update set replayed_at = excluded.replayed_at"""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant: None where anything is; those found in [from, to)."""

    reason: str | None = None
    tenant_id: str | None = None
    topic: str | None = None
    from_us: int | None = None
    to_us: int | None = None


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A letter's place in the order of time."""

    found_us: Annotated[int, Meta(ge=0, lt=MAX_TIME_US)]
    topic: Annotated[str, Meta(pattern=r"^[\w.-]+$")]
    partition: Annotated[int, Meta(ge=0, lt=1 << 31)]
    offset: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


async def position(pool: asyncpg.Pool, partition: int) -> int | None:
    """The next offset to take from a partition of the topic; None before the first."""
    async with reader(pool) as connection:
        found: int | None = await connection.fetchval(_POSITION, _key(partition))
        return found


async def put(pool: asyncpg.Pool, partition: int, letters: Iterable[tuple[int, Letter]], position: int) -> None:
    """Index letters with their offsets, and move on to `position`; all or nothing. The same again changes nothing."""
    async with reader(pool) as connection, transaction(connection):
        await connection.executemany(_PUT, [_row(offset, letter) for offset, letter in letters])
        await connection.execute(_MOVE, _key(partition), str(position))


async def forget(pool: asyncpg.Pool, partition: int, start: int) -> bool:
    """Drop rows of letters below `start`, which the topic has deleted. False when there may be more to drop."""
    async with reader(pool) as connection:
        tag = await connection.execute(_FORGET, partition, start, _FORGET_ROWS)
        gone = int(tag.split()[1])
        if gone:
            await connection.execute(_FORGET_REPLAYS)
        return gone < _FORGET_ROWS


async def newest(pool: asyncpg.Pool, selection: Selection, before: Place | None, limit: int) -> list[asyncpg.Record]:
    """The newest letters of a selection, or those before a place."""
    where, values = _where(selection)
    if before is not None:
        where += " and " + _beyond("<", before, values)
    order = "order by found_at desc, topic desc, partition desc, origin_offset desc"
    async with reader(pool) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(f"{_ROWS} where {where} {order} limit {limit:d}", *values)
    return rows


async def find(pool: asyncpg.Pool, topic: str, partition: int, offset: int) -> asyncpg.Record | None:
    """The row of a letter, by its name."""
    where = "topic = $1 and partition = $2 and origin_offset = $3"
    async with reader(pool) as connection:
        return await connection.fetchrow(f"{_ROWS} where {where}", topic, partition, offset)


def told(row: asyncpg.Record) -> dict[str, Any]:
    """A row ready for JSON."""
    return {
        "topic": row["topic"],
        "partition": row["partition"],
        "offset": row["origin_offset"],
        "reason": row["reason"],
        "tenant_id": row["tenant_id"],
        "field": row["field"],
        "detail": row["detail"],
        "time": _text(row["found_at"]),
        "size_bytes": row["size_bytes"],
        "truncated": row["truncated"],
        "replayed_at": None if row["replayed_at"] is None else _text(row["replayed_at"]),
    }


# -- sending them again ----------------------------------------------------------------------------------------------


async def oldest_unsent(
    pool: asyncpg.Pool, selection: Selection, after: Place | None, before_us: int, *, again: bool, limit: int
) -> list[asyncpg.Record]:
    """The oldest letters after a place whose events were not sent again; with `again`: not since `before_us`."""
    where, values = _where(selection)
    values.append(time_of(before_us))
    before = f"${len(values)}"
    where += f" and found_at <= {before} and (replayed_at is null{f' or replayed_at < {before}' if again else ''})"
    if after is not None:
        where += " and " + _beyond(">", after, values)
    order = "order by found_at, topic, partition, origin_offset"
    async with reader(pool) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(f"{_ROWS} where {where} {order} limit {limit:d}", *values)
    return rows


async def mark(pool: asyncpg.Pool, sent: Iterable[tuple[str, bytes]], now_us: int) -> None:
    """Remember events, by topic and digest, as sent again."""
    async with reader(pool) as connection:
        await connection.executemany(_MARK, [(topic, digest, time_of(now_us)) for topic, digest in sorted(sent)])


def place_of(row: asyncpg.Record) -> Place:
    """Where a letter is in the order of time."""
    return Place(time_us(row["found_at"]), row["topic"], row["partition"], row["origin_offset"])


def _where(selection: Selection) -> tuple[str, list[Any]]:
    """The conditions that are given, and no others, so that each has its index; and their values."""
    values: list[Any] = []
    conditions = ["true"]
    for condition, value in (
        ("reason = ${}", selection.reason),
        ("tenant_id = ${}", selection.tenant_id),
        ("topic = ${}", selection.topic),
        ("found_at >= ${}", None if selection.from_us is None else time_of(selection.from_us)),
        ("found_at < ${}", None if selection.to_us is None else time_of(selection.to_us)),
    ):
        if value is not None:
            values.append(value)
            conditions.append(condition.format(len(values)))
    return " and ".join(conditions), values


def _beyond(side: str, place: Place, values: list[Any]) -> str:
    """The condition that a letter is on one side of a place, whose values are added."""
    values += [time_of(place.found_us), place.topic, place.partition, place.offset]
    last = len(values)
    return f"(found_at, topic, partition, origin_offset) {side} (${last - 3}, ${last - 2}, ${last - 1}, ${last})"


def _row(letter_offset: int, letter: Letter) -> Sequence[Any]:
    digest = hashlib.blake2b(letter.value, digest_size=16).digest()
    names = (_clean(text) for text in (letter.reason, letter.tenant_id, letter.field, letter.detail))
    place = (_clean(letter.topic), letter.partition, letter.offset, letter_offset)
    return (*place, *names, letter.time, len(letter.value), letter.truncated, digest)


def _clean(text: str) -> str:
    """PostgreSQL takes no NUL."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _key(partition: int) -> str:
    return f"dead letters/{partition}"


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
