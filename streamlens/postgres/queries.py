"""The questions that the HTTP API asks: each function is one answer, as rows ready for JSON, newest first.

All take the pool of `PostgresStore`, raise `Unavailable` when Postgres is down or a query takes too long, and pass
values as parameters only. Times are microseconds since the epoch on the way in and RFC 3339 in UTC on the way out.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from streamlens.postgres.connection import reader
from streamlens.postgres.rows import EPOCH, time_of

MINUTE_US = 60_000_000
SERIES = ("route", "model")

_SELECTED = """
    ($1::text is null or tenant_id = $1) and ($2::text is null or {one} = $2) and ($3::text is null or {two} = $3)
    and ($4::timestamptz is null or window_start >= $4) and ($5::timestamptz is null or window_start < $5)"""

# Of the rows of `llm_metrics` by route and model, or of `llm_facets` by facet and value: see `_asked`.
_ROWS = f"""
    select tenant_id, {{one}}, {{two}}, window_start, window_end, requests, errors,
        avg_latency_ms, p50_latency_ms, p95_latency_ms, p99_latency_ms, min_latency_ms, max_latency_ms, p95_ttft_ms,
        avg_prompt_tokens, avg_completion_tokens,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        errors / nullif(requests, 0)::double precision as error_rate,
        estimated_cost_usd, priced, partly_priced, unpriced, reported,
        price_versions_names(price_versions) as price_versions, revision, final
    from {{table}}
    where {_SELECTED}
    order by window_start desc, tenant_id, {{one}}, {{two}}
    limit $6"""

# Percentiles of the merged histograms, averages of the sums: nothing here is an average of averages.
_MERGED = f"""
    with merged as (
        select tenant_id, {{first}} as {{one}}, {{second}} as {{two}},
            date_bin($7, window_start, 'epoch') as window_start,
            sum(requests)::bigint as requests, sum(errors)::bigint as errors,
            sum(latency_sum_us)::double precision as latency_sum_us,
            min(latency_min_us) filter (where requests > 0) as latency_min_us, max(latency_max_us) as latency_max_us,
            histogram_merge(latency_zero, latency_index, latency_count) as latency,
            min(ttft_min_us) filter (where ttft_requests > 0) as ttft_min_us, max(ttft_max_us) as ttft_max_us,
            histogram_merge(ttft_zero, ttft_index, ttft_count) as ttft,
            sum(prompt_tokens)::bigint as prompt_tokens, sum(completion_tokens)::bigint as completion_tokens,
            sum(cached_tokens)::bigint as cached_tokens, sum(cache_write_tokens)::bigint as cache_write_tokens,
            sum(reasoning_tokens)::bigint as reasoning_tokens,
            sum(estimated_cost_usd) as estimated_cost_usd,
            sum(priced)::bigint as priced, sum(partly_priced)::bigint as partly_priced,
            sum(unpriced)::bigint as unpriced, sum(reported)::bigint as reported,
            price_versions_merge(price_versions) as price_versions,
            sum(revision)::bigint as revision, bool_and(final) as final
        from {{table}}
        where {_SELECTED}
        group by 1, 2, 3, 4
        order by 4 desc, 1, 2, 3
        limit $6
    )
    select tenant_id, {{one}}, {{two}}, window_start, window_start + $7 as window_end, requests, errors,
        latency_sum_us / 1000 / nullif(requests, 0) as avg_latency_ms,
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

_SPAN = f"select min(window_start), max(window_start) from {{table}} where {_SELECTED}"

# A loose index scan: one step of the index for each answer, however many minutes a series has.
_TENANTS = """
    with recursive found (tenant_id) as (
        (select tenant_id from llm_metrics order by tenant_id limit 1)
        union all
        select (select tenant_id from llm_metrics where tenant_id > found.tenant_id order by tenant_id limit 1)
        from found where found.tenant_id is not null
    )
    select tenant_id, (select max(window_start) from llm_metrics m where m.tenant_id = found.tenant_id) as last_window
    from found where tenant_id is not null order by tenant_id"""

_TENANT = """
    select tenant_id, max(window_start) as last_window from llm_metrics where tenant_id = $1 group by tenant_id"""

_SERIES = """
    with recursive found (route, model) as (
        (select route, model from llm_metrics where tenant_id = $1 order by route, model limit 1)
        union all
        select next.route, next.model from found, lateral (
            select route, model from llm_metrics where tenant_id = $1 and (route, model) > (found.route, found.model)
            order by route, model limit 1
        ) as next
    )
    select $1::text as tenant_id, route, model, (
        select max(window_start) from llm_metrics m
        where m.tenant_id = $1 and m.route = found.route and m.model = found.model
    ) as last_window
    from found order by route, model"""

_LEDGER = """
    select tenant_id, minute, received, aggregated, pending, orphaned, duplicate, late, rejected,
        received = aggregated + pending + orphaned + duplicate + late + rejected as closes
    from llm_ledger
    where ($1::text is null or tenant_id = $1)
        and ($2::timestamptz is null or minute >= $2) and ($3::timestamptz is null or minute < $3)
    order by minute desc, tenant_id
    limit $4"""


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
) -> list[dict[str, Any]]:
    """The `limit` newest windows of `step_us` (whole minutes) that start in [from, to), shaped as in `GET /v1/metrics`.

    A row per tenant and, as `group_by` says, route and model; what is not in `group_by` is summed up and null. A longer
    step or fewer groups merge the minutes' histograms; `final` then means that all those minutes are, and `revision`
    is the sum of theirs. With a `facet`: a row per tenant and value of it, `facet` and `value` in place of route and
    model, which can't be chosen then.
    """
    assert facet is None or (route is None and model is None), "facets are counted over all routes and models"
    chosen = (tenant_id, route, model) if facet is None else (tenant_id, facet, None)
    one, two = names = SERIES if facet is None else ("facet", "value")
    groups = group_by if facet is None else names
    table = {"table": "llm_metrics" if facet is None else "llm_facets", "one": one, "two": two}
    first, last = moment(from_us), moment(to_us)
    async with reader(pool) as connection:
        if step_us == MINUTE_US and set(groups) == set(names):
            found = await connection.fetch(_ROWS.format(**table), *chosen, first, last, limit)
            return [plain(row) for row in found]
        first_group, second_group = (name if name in groups else "null::text" for name in names)
        query, span = _MERGED.format(**table, first=first_group, second=second_group), _SPAN.format(**table)
        found = await newest(connection, query, span, (*chosen, first, last), limit, step_us)
        return [plain(row) for row in found]


async def newest(
    connection: asyncpg.Connection, query: str, span: str, chosen: tuple[Any, ...], limit: int, step_us: int
) -> Sequence[Mapping[str, Any]]:
    """The `limit` newest rows of a query that merges windows to steps.

    Its parameters are `chosen`, of which the last two are the time from and to, `limit` and the step. `span` gives the
    oldest and the newest window of `chosen`.
    """
    step = timedelta(microseconds=step_us)
    *which, first, last = chosen
    if first is not None:
        return await connection.fetch(query, *chosen, limit, step)  # type: ignore[no-any-return]
    # Without a beginning: look at the newest stretch only, and further back while it holds too few rows.
    oldest, latest = await connection.fetchrow(span, *chosen)
    if latest is None:
        return []
    latest -= (latest - EPOCH) % step
    stretch = (limit - 1) * step
    while True:
        begin = latest - stretch
        rows: Sequence[Mapping[str, Any]] = await connection.fetch(query, *which, begin, last, limit, step)
        if len(rows) == limit or begin <= oldest:
            return rows
        stretch = 8 * stretch + step


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
) -> list[dict[str, Any]]:
    """The ledger of the minutes in [from, to); `closes` says whether the books of a minute balance."""
    async with reader(pool) as connection:
        rows = await connection.fetch(_LEDGER, tenant_id, moment(from_us), moment(to_us), limit)
        return [plain(row) for row in rows]


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
