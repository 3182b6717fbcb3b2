"""Questions about users and sessions: who came back, how far they got, what a session was. All as in `queries`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import asyncpg
import msgspec
from msgspec import Meta

from streamlens.events import time_us
from streamlens.fields import MAX_TIME_US
from streamlens.postgres.connection import reader
from streamlens.postgres.queries import moment, plain
from streamlens.postgres.rows import time_of

MAX_GROUPS = 100
"""Of one cohort: the largest ones."""
MAX_TENANTS = 1_000
"""That may have a session of one id."""

_NEWEST = """
    select max(first_at) from llm_visits where kind = 'user' and ($1::text is null or tenant_id = $1)"""

_RETENTION = "select value, day, users from llm_retention($1, $2, $3, $4)"

_FUNNEL = "select step, reached from llm_funnel($1, $2, $3, $4, $5)"

# A session is found by its first row; with $2 by the first one of these users. `limit 1` has the view look at it alone,
# and `is not distinct from` has rows looked up by visitor, as in `llm_retention`.
_SESSIONS = """
    select found.id, found.first_at, session.*
    from (
        select id, tenant_id, visitor, first_at
        from llm_visits as started
        where kind = 'session' and ($1::text is null or tenant_id = $1) and ($2::text[] is null or user_hash = any($2))
            and ($3::timestamptz is null or first_at >= $3) and ($4::timestamptz is null or first_at < $4)
            and ($5::timestamptz is null or (first_at, id) < ($5, $6::bytea))
            and id = (
                select id from llm_visits as own
                where own.visitor = started.visitor and own.tenant_id is not distinct from started.tenant_id
                    and own.kind = 'session' and ($2::text[] is null or own.user_hash = any($2))
                order by first_at, id
                limit 1
            )
        order by first_at desc, id desc
        limit $7
    ) as found, lateral (
        select * from llm_sessions as whole
        where whole.tenant_id is not distinct from found.tenant_id and whole.session_id = found.visitor
        limit 1
    ) as session
    order by found.first_at desc, found.id desc"""

_SESSION = f"""
    select * from llm_sessions
    where session_id = $1 and ($2::text is null or tenant_id = $2)
    order by tenant_id
    limit {MAX_TENANTS}"""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A session's place in the order of time: when it began, and the id of its first row, in hex."""

    began_us: Annotated[int, Meta(ge=0, lt=MAX_TIME_US)]
    row_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


async def newest_cohort(pool: asyncpg.Pool, tenant_id: str | None) -> date | None:
    """The last date on which there was a user; None when there was never any."""
    async with reader(pool) as connection:
        at: datetime | None = await connection.fetchval(_NEWEST, tenant_id)
    return None if at is None else at.astimezone(UTC).date()


async def retention(
    pool: asyncpg.Pool, tenant_id: str | None, cohort_date: date, days: int, by: str | None, settled_us: int
) -> list[dict[str, Any]]:
    """How many users of a date's cohort came back on each of the `days` after it, shaped as in `GET /v1/retention`.

    One entry, or, `by` "route" or "model", one for each value of the users' first calls, the largest `MAX_GROUPS`.
    Days that ended before `settled_us` are complete: nothing of them can count any more.
    """
    async with reader(pool) as connection:
        rows = await connection.fetch(_RETENTION, cohort_date, tenant_id, days, by)
    users: dict[str | None, dict[int, int]] = {} if by else {None: {}}
    for row in rows:
        users.setdefault(row["value"], {})[row["day"]] = row["users"]
    largest = sorted(users.items(), key=lambda group: (-group[1].get(0, 0), group[0] or ""))[:MAX_GROUPS]
    settled = time_of(settled_us)
    return [_cohort(cohort_date, days, by, value, counts, settled) for value, counts in largest]


def _cohort(
    cohort_date: date, days: int, by: str | None, value: str | None, users: Mapping[int, int], settled: datetime
) -> dict[str, Any]:
    size, later = users.get(0, 0), []
    for day in range(1, days + 1):
        date_of_day, returned = cohort_date + timedelta(days=day), users.get(day, 0)
        end = datetime.combine(date_of_day + timedelta(days=1), datetime.min.time(), UTC)
        later.append(
            {
                "day": day,
                "date": date_of_day.isoformat(),
                "returned": returned,
                "rate": returned / size if size else None,
                "complete": end <= settled,
            }
        )
    return {"cohort_date": cohort_date.isoformat(), "by": by, "value": value, "size": size, "days": later}


async def funnel(
    pool: asyncpg.Pool, steps: Sequence[str], kind: str, tenant_id: str | None, from_us: int, to_us: int
) -> list[dict[str, Any]]:
    """How many visitors of a kind called the routes `steps` one after the other, in minutes that begin in [from, to).

    Shaped as the steps of `GET /v1/funnel`. Two calls of one minute count as in the order of the steps.
    """
    async with reader(pool) as connection:
        rows = await connection.fetch(_FUNNEL, steps, kind, tenant_id, moment(from_us), moment(to_us))
    found = {row["step"]: row["reached"] for row in rows}
    reached = [found.get(number, 0) for number in range(1, len(steps) + 1)]
    return [
        {
            "route": route,
            "reached": count,
            "share_of_first": count / reached[0] if reached[0] else None,
            "share_of_previous": count / before if before else None,
        }
        for route, count, before in zip(steps, reached, [reached[0], *reached], strict=False)
    ]


async def sessions(
    pool: asyncpg.Pool,
    tenant_id: str | None,
    users: Sequence[str] | None,
    from_us: int | None,
    to_us: int | None,
    limit: int,
    after: Place | None = None,
) -> list[asyncpg.Record]:
    """Sessions that began in [from, to), the last one first, or those after a place; `session_told` makes rows of them.

    `users`: only those in which a user of one of these keyed hashes (hex) called, by when it first did.
    """
    place = (None, None) if after is None else (time_of(after.began_us), bytes.fromhex(after.row_id))
    async with reader(pool) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            _SESSIONS, tenant_id, users, moment(from_us), moment(to_us), *place, limit
        )
    return rows


async def session(pool: asyncpg.Pool, session_id: str, tenant_id: str | None) -> list[asyncpg.Record]:
    """The session of an id, of each tenant that has one."""
    async with reader(pool) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(_SESSION, session_id, tenant_id)
    return rows


def session_told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A session as it is answered."""
    found = plain(row)
    return {"user" if name == "user_hash" else name: found[name] for name in _SESSION_FIELDS}


def place_of(row: asyncpg.Record) -> Place:
    """Where a session of `sessions` is in the order of time."""
    return Place(time_us(row["first_at"]), row["id"].hex())


_SESSION_FIELDS = (
    "tenant_id",
    "session_id",
    "user_hash",
    "started_at",
    "last_at",
    "calls",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "estimated_cost_usd",
    "unpriced",
    "routes",
)
