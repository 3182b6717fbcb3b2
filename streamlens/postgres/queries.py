"""The questions that the HTTP API asks: each function is one answer, as rows ready for JSON, newest first.

All take the pool of `PostgresStore`, raise `Unavailable` when Postgres is down or a query takes too long, and pass
values as parameters only. Times are microseconds since the epoch on the way in and RFC 3339 in UTC on the way out.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec

from streamlens.events import time_us
from streamlens.postgres.connection import reader, transaction
from streamlens.postgres.merging import BEGINNING, END, MEASURES, SUMS, Piece, pieces, read_marks
from streamlens.postgres.rows import time_of
from streamlens.postgres.windows import Place, Text, TimeUs, beyond, looked_back, until, values_of

MINUTE_US = 60_000_000
SERIES = ("route", "model")

_CHOSEN = """
    ($1::text is null or tenant_id = $1) and ($2::text is null or {one} = $2) and ($3::text is null or {two} = $3)"""

# Of the rows of `llm_metrics` by route and model, or of `llm_facets` by facet and value.
_ROWS = f"""
    select tenant_id, {{one}}, {{two}}, window_start, window_end, requests, errors,
        avg_latency_ms, p50_latency_ms, p95_latency_ms, p99_latency_ms, min_latency_ms, max_latency_ms, p95_ttft_ms,
        avg_prompt_tokens, avg_completion_tokens,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        errors / nullif(requests, 0)::double precision as error_rate,
        estimated_cost_usd, priced, partly_priced, unpriced, reported,
        price_versions_names(price_versions) as price_versions, revision, final
    from {{table}}
    where {_CHOSEN} and window_start >= $4 and window_start < $5
        and window_start >= (select minutes_from from llm_history) and {{beyond}}
    order by window_start desc, tenant_id, {{one}}, {{two}}
    limit $6"""

# A piece of the rows to be merged, from the table that has it.
_PIECE = f"""
        select tenant_id, {{one}}, {{two}}, window_start, {MEASURES}
        from {{table}} where {_CHOSEN} and window_start >= {{begin}} and window_start < {{end}} and {{beyond}}"""

# Percentiles of the merged histograms, averages of the sums: nothing here is an average of averages.
_MERGED = f"""
    with chosen as ({{pieces}}
    ), merged as (
        select tenant_id, {{first}} as {{one}}, {{second}} as {{two}},
            date_bin($5, window_start, 'epoch') as window_start, {SUMS},
            price_versions_merge(price_versions) as price_versions
        from chosen
        group by 1, 2, 3, 4
        order by 4 desc, 1, 2, 3
        limit $4
    )
    select tenant_id, {{one}}, {{two}}, window_start, window_start + $5 as window_end, requests, errors,
        latency_sum_us::double precision / 1000 / nullif(requests, 0) as avg_latency_ms,
        histogram_quantile(0.50, latency, latency_min_us, latency_max_us) / 1000 as p50_latency_ms,
        histogram_quantile(0.95, latency, latency_min_us, latency_max_us) / 1000 as p95_latency_ms,
        histogram_quantile(0.99, latency, latency_min_us, latency_max_us) / 1000 as p99_latency_ms,
        latency_min_us / 1000::double precision as min_latency_ms,
        latency_max_us / 1000::double precision as max_latency_ms,
        histogram_quantile(0.95, ttft, ttft_min_us, ttft_max_us) / 1000 as p95_ttft_ms,
        prompt_tokens::double precision / nullif(requests, 0) as avg_prompt_tokens,
        completion_tokens::double precision / nullif(requests, 0) as avg_completion_tokens,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        errors / nullif(requests, 0)::double precision as error_rate,
        estimated_cost_usd, priced, partly_priced, unpriced, reported, price_versions, revision, final
    from merged
    order by window_start desc, tenant_id, {{one}}, {{two}}"""

# The oldest and the newest window in [$7, $6).
_SPAN = f"""
    select least(minutes.oldest, hours.oldest), greatest(minutes.newest, hours.newest) from
        (select min(window_start) as oldest, max(window_start) as newest from {{table}}
            where {_CHOSEN} and window_start >= greatest($5::timestamptz, $7) and window_start < $6) as minutes,
        (select min(window_start) as oldest, max(window_start) as newest from {{table}}_hourly
            where {_CHOSEN} and window_start >= $7 and window_start < least($4, $6)) as hours"""

# A loose index scan: one step of the index for each answer, however many rows a series has.
_TENANTS_OF = """
    (with recursive found (tenant_id) as (
        (select tenant_id from {table} order by tenant_id limit 1)
        union all
        select (select tenant_id from {table} where tenant_id > found.tenant_id order by tenant_id limit 1)
        from found where found.tenant_id is not null
    )
    select tenant_id, (select max(window_start) from {table} m where m.tenant_id = found.tenant_id) as last_window
    from found where tenant_id is not null)"""

_TENANT_OF = "select tenant_id, max(window_start) as last_window from {table} where tenant_id = $1 group by tenant_id"

_SERIES_OF = """
    (with recursive found (route, model) as (
        (select route, model from {table} where tenant_id = $1 order by route, model limit 1)
        union all
        select next.route, next.model from found, lateral (
            select route, model from {table} where tenant_id = $1 and (route, model) > (found.route, found.model)
            order by route, model limit 1
        ) as next
    )
    select $1::text as tenant_id, route, model, (
        select max(window_start) from {table} m
        where m.tenant_id = $1 and m.route = found.route and m.model = found.model
    ) as last_window
    from found)"""


def _in_minutes_or_hours(names: str, query: str) -> str:
    """Of what is found in both tables, the newest."""
    both = " union all ".join(query.format(table=table) for table in ("llm_metrics", "llm_metrics_hourly"))
    return f"select {names}, max(last_window) as last_window from ({both}) as found group by {names} order by {names}"


_TENANTS, _TENANT = (_in_minutes_or_hours("tenant_id", query) for query in (_TENANTS_OF, _TENANT_OF))
_SERIES = _in_minutes_or_hours("tenant_id, route, model", _SERIES_OF)

_LEDGER = """
    select tenant_id, minute, received, aggregated, pending, orphaned, duplicate, late, rejected,
        received = aggregated + pending + orphaned + duplicate + late + rejected as closes
    from llm_ledger
    where ($1::text is null or tenant_id = $1)
        and ($2::timestamptz is null or minute >= $2) and ($3::timestamptz is null or minute < $3)
        and ($5::timestamptz is null or minute <= $5 and (minute < $5 or tenant_id > $6))
    order by minute desc, tenant_id
    limit $4"""


class LedgerPlace(msgspec.Struct, frozen=True, array_like=True):
    """A row's place in the ledger, newest first."""

    minute_us: TimeUs
    tenant_id: Text

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "LedgerPlace":
        return cls(time_us(datetime.fromisoformat(row["minute"])), row["tenant_id"])


def columns_of(group_by: Collection[str] = SERIES, facet: str | None = None) -> tuple[str, ...]:
    """What orders the rows of `metrics` of one time."""
    names = (name for name in SERIES if name in group_by) if facet is None else ("facet", "value")
    return ("tenant_id", *names)


async def metrics(
    pool: asyncpg.Pool,
    tenant_id: str | None = None,
    route: str | None = None,
    model: str | None = None,
    from_us: int | None = None,
    to_us: int | None = None,
    step_us: int = MINUTE_US,
    group_by: Collection[str] = SERIES,
    facet: str | None = None,
    limit: int = 60,
    after: Place | None = None,
) -> list[dict[str, Any]]:
    """The `limit` newest windows of `step_us` (whole minutes) that start in [from, to), shaped as in `GET /v1/metrics`.

    A row per tenant and, as `group_by` says, route and model; what is not in `group_by` is summed up and null. A longer
    step or fewer groups merge the minutes' histograms; `final` then means that all those minutes are, and `revision`
    is the sum of theirs. With a `facet`: a row per tenant and value of it, `facet` and `value` in place of route and
    model, which can't be chosen then. With `after`, a place of this step and these `columns_of`: what comes after it.
    """
    assert facet is None or (route is None and model is None), "facets are counted over all routes and models"
    chosen = (tenant_id, route, model) if facet is None else (tenant_id, facet, None)
    one, two = names = SERIES if facet is None else ("facet", "value")
    groups = group_by if facet is None else names
    columns = columns_of(group_by, facet)
    place = values_of(after, columns)
    table = {"table": "llm_metrics" if facet is None else "llm_facets", "one": one, "two": two}
    first, last = moment(from_us), moment(until(to_us, after)) or END
    async with reader(pool) as connection:
        if step_us == MINUTE_US and set(groups) == set(names):
            query = _ROWS.format(**table, beyond=beyond(after, columns, 7))
            found = await connection.fetch(query, *chosen, first or BEGINNING, last, limit, *place)
            return [plain(row) for row in found]
        async with transaction(connection, isolation="repeatable_read", readonly=True):
            first_group, second_group = (name if name in groups else "null::text" for name in names)
            group = {"first": first_group, "second": second_group, "beyond": beyond(after, columns, 6)}
            step = timedelta(microseconds=step_us)
            marks = (await read_marks(connection)).of(step)

            async def merged(begin: datetime) -> Sequence[Mapping[str, Any]]:
                return await _merge(connection, table | group, chosen, pieces(begin, last, marks), limit, step, place)

            async def ends() -> Sequence[datetime | None]:
                span = (*marks, last, first or BEGINNING)
                return await connection.fetchrow(_SPAN.format(**table), *chosen, *span)  # type: ignore[no-any-return]

            return [plain(row) for row in await looked_back(merged, ends, first, limit, step)]


async def _merge(
    connection: asyncpg.Connection,
    names: dict[str, str],
    chosen: Sequence[str | None],
    parts: Sequence[Piece],
    limit: int,
    step: timedelta,
    place: Sequence[Any],
) -> Sequence[Mapping[str, Any]]:
    """The rows in all `parts` beyond a place, merged."""
    if not parts:
        return []
    selects, bounds, first = [], [], 6 + len(place)
    for number, part in enumerate(parts):
        begin, end = f"${first + 2 * number}", f"${first + 1 + 2 * number}"
        selects.append(_PIECE.format(**names | {"table": names["table"] + part.table}, begin=begin, end=end))
        bounds += [part.begin, part.end]
    query = _MERGED.format(**names, pieces="\n        union all".join(selects))
    return await connection.fetch(query, *chosen, limit, step, *place, *bounds)  # type: ignore[no-any-return]


async def tenants(pool: asyncpg.Pool, tenant_id: str | None = None) -> list[dict[str, Any]]:
    """Each tenant that has rows, or the one: `tenant_id` and the start of its newest window, `last_window`."""
    async with reader(pool) as connection:
        rows = await (connection.fetch(_TENANTS) if tenant_id is None else connection.fetch(_TENANT, tenant_id))
        return [plain(row) for row in rows]


async def series(pool: asyncpg.Pool, tenant_id: str) -> list[dict[str, Any]]:
    """Each series of a tenant: `tenant_id`, `route`, `model` and the start of its newest window, `last_window`."""
    async with reader(pool) as connection:
        return [plain(row) for row in await connection.fetch(_SERIES, tenant_id)]


async def ledger(
    pool: asyncpg.Pool,
    tenant_id: str | None = None,
    from_us: int | None = None,
    to_us: int | None = None,
    limit: int = 10_000,
    after: LedgerPlace | None = None,
) -> list[dict[str, Any]]:
    """The ledger of the minutes in [from, to), or what comes after a place; `closes` says whether the books of a minute
    balance."""
    minute_us, tenant = (None, None) if after is None else (after.minute_us, after.tenant_id)
    chosen = (tenant_id, moment(from_us), moment(to_us), limit, moment(minute_us), tenant)
    async with reader(pool) as connection:
        return [plain(row) for row in await connection.fetch(_LEDGER, *chosen)]


def moment(us: int | None) -> datetime | None:
    return None if us is None else time_of(us)


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with values that JSON has: times as RFC 3339, money as a number (a float holds 15 digits of it)."""
    plain = dict(row)
    for name, value in plain.items():
        if isinstance(value, datetime):
            plain[name] = value.isoformat().replace("+00:00", "Z")
        elif isinstance(value, Decimal):
            plain[name] = float(value)
    return plain
