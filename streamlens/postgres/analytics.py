"""The questions about a span of time that have a shape of their own, each a function in `deploy/migrations/`.

They take the pool of `PostgresStore` and times in microseconds since the epoch, and raise `Unavailable` when Postgres
is down or a query takes too long. `tenant_id` None: all tenants.
"""

from datetime import timedelta
from typing import Any

import asyncpg

from streamlens.postgres.connection import reader
from streamlens.postgres.queries import MINUTE_US, moment, plain
from streamlens.postgres.windows import Place, newest, until, values_of

Rows = list[dict[str, Any]]

MINUTES_BY = ("tenant_id", "model", "model_version")
"""What orders the rows of one minute; those without a version come last."""
# After a place the rows that the function finds first may all be before it.
_MINUTES = """
    select * from calls_by_model_version($1, $2, $3, $4, case when $7::timestamptz is null then $5::bigint end, $6)
    where $7 is null or minute < $7
        or (tenant_id, model, model_version is null, coalesce(model_version, ''))
            > ($8::text, $9::text, $10::text is null, coalesce($10, ''))
    order by minute desc, tenant_id, model, model_version nulls last
    limit $5"""
_MINUTES_SPAN = """
    select min(window_start), max(window_start) from llm_metrics
    where ($1::text is null or tenant_id = $1) and ($2::text is null or model = $2)
        and ($3::timestamptz is null or window_start >= $3) and ($4::timestamptz is null or window_start < $4)"""
_TOP = """
    select *, count / sum(count) over ()::double precision as share, (sum(count) over ())::bigint as total
    from errors_by_series($1, $2, $3)
    order by count desc, tenant_id, error_type, route, model
    limit $4"""


async def minutes(
    pool: asyncpg.Pool,
    tenant_id: str | None = None,
    model: str | None = None,
    from_us: int | None = None,
    to_us: int | None = None,
    limit: int = 60,
    after: Place | None = None,
) -> Rows:
    """The newest rows per tenant, minute, model and version of the model, shaped as in `GET /v1/metrics/minute`."""
    chosen = (tenant_id, model, moment(from_us), moment(until(to_us, after)))
    place = values_of(after, MINUTES_BY) or [None] * 4
    async with reader(pool) as connection:
        found = await newest(connection, _MINUTES, _MINUTES_SPAN, chosen, limit, MINUTE_US, place)
    return [plain(row) for row in found]


async def top_errors(
    pool: asyncpg.Pool, tenant_id: str | None, from_us: int, to_us: int, limit: int = 20
) -> tuple[Rows, int]:
    """Errors per tenant, class, route and model, the most frequent first, and how many there are in all."""
    rows = await _asked(pool, _TOP, tenant_id, moment(from_us), moment(to_us), limit)
    totals = [row.pop("total") for row in rows]
    return rows, totals[0] if totals else 0


async def errors_by_type(pool: asyncpg.Pool, tenant_id: str | None, from_us: int, to_us: int) -> Rows:
    """Errors per class, the most frequent first, with their routes and models."""
    return await _asked(pool, "select * from errors_by_type($1, $2, $3)", tenant_id, moment(from_us), moment(to_us))


async def summary(pool: asyncpg.Pool, tenant_id: str | None, from_us: int, to_us: int) -> dict[str, Any]:
    """All calls of the span in one row; sums are 0, all else null where there are none."""
    (row,) = await _asked(pool, "select * from calls_summary($1, $2, $3)", tenant_id, moment(from_us), moment(to_us))
    return row


async def over_time(
    pool: asyncpg.Pool,
    tenant_id: str | None,
    route: str | None,
    model: str | None,
    from_us: int,
    to_us: int,
    step_us: int,
) -> Rows:
    """A row for each step of the span, the oldest first."""
    step = timedelta(microseconds=step_us)
    query = "select * from calls_over_time($1, $2, $3, $4, $5, $6)"
    return await _asked(pool, query, tenant_id, route, model, moment(from_us), moment(to_us), step)


async def providers(pool: asyncpg.Pool, tenant_id: str | None, from_us: int, to_us: int) -> Rows:
    """Calls per provider, the most first; `provider` None: of those that tell none."""
    return await _asked(pool, "select * from calls_by_provider($1, $2, $3)", tenant_id, moment(from_us), moment(to_us))


async def _asked(pool: asyncpg.Pool, query: str, *values: object) -> Rows:
    async with reader(pool) as connection:
        return [plain(row) for row in await connection.fetch(query, *values)]
