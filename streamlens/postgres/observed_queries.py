"""The questions about what is no call, as `queries.py` has those about calls: evaluations, tallies, lines of logs."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Annotated, Any

import asyncpg
import msgspec
import orjson
from msgspec import Meta

from streamlens.events import time_us
from streamlens.postgres.connection import reader
from streamlens.postgres.queries import moment, plain
from streamlens.postgres.rows import time_of
from streamlens.postgres.windows import Place, Text, TimeUs, beyond, newest, until, values_of
from streamlens.scores import MILLION, quantiles

EVALUATED_BY = ("tenant_id", "route", "model", "name")
TALLIED_BY = ("tenant_id", "kind", "name", "detail")
"""What orders the rows of one time."""

_EVALUATED = """
    ($1::text is null or tenant_id = $1) and ($2::text is null or route = $2) and ($3::text is null or model = $3)
    and ($4::text is null or name = $4)
    and ($5::timestamptz is null or window_start >= $5) and ($6::timestamptz is null or window_start < $6)"""

_EVALUATIONS = f"""
    select tenant_id, route, model, name,
        date_bin($8, window_start, 'epoch') as window_start, date_bin($8, window_start, 'epoch') + $8 as window_end,
        sum(evaluations)::bigint as evaluations, sum(scored)::bigint as scored,
        sum(score_sum) / nullif(sum(scored), 0) as avg_score, min(min_score) as min_score, max(max_score) as max_score,
        histogram_merge(zero, positive_index, positive_count) as positive,
        histogram_merge(0, negative_index, negative_count) as negative,
        counts_merge(labels) as labels, sum(revision)::bigint as revision, bool_and(final) as final
    from llm_evaluations
    where {_EVALUATED} and {{beyond}}
    group by 1, 2, 3, 4, 5
    order by 5 desc, 1, 2, 3, 4
    limit $7"""

_EVALUATIONS_SPAN = f"select min(window_start), max(window_start) from llm_evaluations where {_EVALUATED}"

_TALLIED = """
    kind = any($1) and ($2::text is null or tenant_id = $2) and ($3::text is null or name = $3)
    and ($4::timestamptz is null or window_start >= $4) and ($5::timestamptz is null or window_start < $5)"""

_TALLIES = f"""
    select tenant_id, kind, name, detail,
        date_bin($7, window_start, 'epoch') as window_start, date_bin($7, window_start, 'epoch') + $7 as window_end,
        sum(count)::bigint as count, case when kind = 'metric' then sum(sum) end as sum,
        case when kind = 'metric' then min(min) end as min, case when kind = 'metric' then max(max) end as max
    from llm_tallies
    where {_TALLIED} and {{beyond}}
    group by 1, 2, 3, 4, 5
    order by 5 desc, 1, 2, 3, 4
    limit $6"""

_TALLIES_SPAN = f"select min(window_start), max(window_start) from llm_tallies where {_TALLIED}"

_LOGS = """
    select log_id as id, tenant_id, at as timestamp, content, id as row_id
    from app_logs
    where ($1::text is null or tenant_id = $1) and level = any($2) and ($3::text is null or service = $3)
        and ($5::timestamptz is null or at <= $5 and (at < $5 or (log_id, id) > ($6, $7::bytea)))
    order by at desc, log_id, app_logs.id
    limit $4"""


class LinePlace(msgspec.Struct, frozen=True, array_like=True):
    """A line's place, newest first: its id may be that of other tenants' lines too, its row's is its own, in hex."""

    at_us: TimeUs
    log_id: Text
    row_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


async def evaluations(
    pool: asyncpg.Pool,
    tenant_id: str | None,
    route: str | None,
    model: str | None,
    name: str | None,
    from_us: int | None,
    to_us: int | None,
    step_us: int,
    limit: int,
    after: Place | None = None,
) -> list[dict[str, Any]]:
    """A row per tenant, route, model, name and step, shaped as in `GET /v1/evaluations`, newest first."""
    chosen = (tenant_id, route, model, name, moment(from_us), moment(until(to_us, after)))
    query, place = _EVALUATIONS.format(beyond=beyond(after, EVALUATED_BY, 9)), values_of(after, EVALUATED_BY)
    async with reader(pool) as connection:
        found = await newest(connection, query, _EVALUATIONS_SPAN, chosen, limit, step_us, place)
    return [_evaluated(row) for row in found]


async def tallies(
    pool: asyncpg.Pool,
    kinds: Collection[str],
    tenant_id: str | None,
    name: str | None,
    from_us: int | None,
    to_us: int | None,
    step_us: int,
    limit: int,
    after: Place | None = None,
) -> list[dict[str, Any]]:
    """A row per tenant, kind, name, detail and step, shaped as in `GET /v1/tallies`, newest first."""
    chosen = (list(kinds), tenant_id, name, moment(from_us), moment(until(to_us, after)))
    query, place = _TALLIES.format(beyond=beyond(after, TALLIED_BY, 8)), values_of(after, TALLIED_BY)
    async with reader(pool) as connection:
        found = await newest(connection, query, _TALLIES_SPAN, chosen, limit, step_us, place)
    return [plain(row) for row in found]


async def recent_logs(
    pool: asyncpg.Pool,
    tenant_id: str | None,
    levels: Collection[str],
    service: str | None,
    limit: int,
    after: LinePlace | None = None,
) -> tuple[list[dict[str, Any]], LinePlace | None]:
    """The newest lines that were kept: `id`, `tenant_id`, `timestamp`, and what the line said; and the place of the
    last one if there may be more."""
    place = (None,) * 3 if after is None else (time_of(after.at_us), after.log_id, bytes.fromhex(after.row_id))
    async with reader(pool) as connection:
        rows = await connection.fetch(_LOGS, tenant_id, list(levels), service, limit, *place)
    last = _line_place(rows[-1]) if len(rows) == limit else None
    return [_line(row) for row in rows], last


def _line_place(row: asyncpg.Record) -> LinePlace:
    at: datetime = row["timestamp"]
    return LinePlace(time_us(at), row["id"], row["row_id"].hex())


def _line(row: asyncpg.Record) -> dict[str, Any]:
    found = plain(row)
    del found["row_id"]
    said: dict[str, Any] = orjson.loads(found.pop("content"))
    return found | said


def _evaluated(row: Mapping[str, Any]) -> dict[str, Any]:
    found = plain(row)
    positive, negative = found.pop("positive"), found.pop("negative")
    sides = (dict(zip(side["index"], side["count"], strict=True)) for side in (negative, positive))
    low, high = (None if found[name] is None else found[name] * MILLION for name in ("min_score", "max_score"))
    below, above = sides
    values = quantiles((0.05, 0.5, 0.95), below, positive["zero"], above, low or 0, high or 0)
    for name, value in zip(("p5_score", "p50_score", "p95_score"), values, strict=True):
        found[name] = None if value is None else value / MILLION
    found["labels"] = orjson.loads(found["labels"])
    return found
