"""Adds up the minutes of each hour, for calls and facets, once nothing can change them any more.

So an hour's rows are written once and never repaired, and it does not matter how many do it, or who is killed where:
hours count from the moment in which `llm_history` says so, which is after all of them are there.
"""

import asyncio
from datetime import datetime

import asyncpg
import structlog

from streamlens.errors import Unavailable
from streamlens.postgres.connection import reader, transaction
from streamlens.postgres.database import Database
from streamlens.postgres.merging import HOUR, MEASURES, SUMS, hour_of

logger = structlog.get_logger()

SERIES = 200
"""How many are added up in one transaction: a fraction of a second's work."""
EVERY_S = 20.0
STEP_S = 60
"""Longest time for a transaction: finding what is left of an hour of millions of rows may take a while."""
_PAUSE_S = 0.02
"""Between two transactions, so that rows get in."""
_LOCK = int.from_bytes(b"rollup", "big")
"""Of the advisory lock. Any number will do that no other program in the database uses."""

# Settled is what all partitions of stage two are past.
_DUE = """
    select hours_until, (select case when count(*) = $1 then min(settled_until) end from llm_settled) as settled_until
    from llm_history"""

_NEXT = """
    select least((select min(window_start) from llm_metrics where window_start >= $1),
        (select min(window_start) from llm_facets where window_start >= $1))"""

_MOVE = "update llm_history set hours_until = $2 where hours_until = $1"

# Adds up some of those series of the hour [$1, $2) that are not there yet; returns how many were not.
_ADD_UP = f"""
    with due as (
        select distinct tenant_id, {{one}}, {{two}} from {{table}} as minutes
        where window_start >= $1 and window_start < $2 and not exists (
            select from {{table}}_hourly as hours
            where (hours.tenant_id, hours.{{one}}, hours.{{two}}, hours.window_start)
                = (minutes.tenant_id, minutes.{{one}}, minutes.{{two}}, $1))
        limit $3
    ), merged as (
        select tenant_id, {{one}}, {{two}}, {SUMS},
            counts_merge(error_types) filter (where error_types <> '{{{{}}}}') as error_types,
            counts_merge(price_versions) filter (where price_versions <> '{{{{}}}}') as price_versions
        from {{table}} join due using (tenant_id, {{one}}, {{two}})
        where window_start >= $1 and window_start < $2
        group by tenant_id, {{one}}, {{two}}
    ), added as (
        insert into {{table}}_hourly (tenant_id, {{one}}, {{two}}, window_start, window_end,
            p50_latency_ms, p95_latency_ms, p99_latency_ms, p95_ttft_ms, {MEASURES})
        select tenant_id, {{one}}, {{two}}, $1, $2,
            histogram_quantile(0.50, latency, latency_min_us, latency_max_us) / 1000,
            histogram_quantile(0.95, latency, latency_min_us, latency_max_us) / 1000,
            histogram_quantile(0.99, latency, latency_min_us, latency_max_us) / 1000,
            histogram_quantile(0.95, ttft, ttft_min_us, ttft_max_us) / 1000,
            requests, errors, coalesce(error_types, '{{{{}}}}'),
            latency_sum_us, coalesce(latency_min_us, 0), latency_max_us,
            (latency).zero, (latency).index, (latency).count,
            ttft_requests, ttft_sum_us, coalesce(ttft_min_us, 0), ttft_max_us, (ttft).zero, (ttft).index, (ttft).count,
            prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
            priced, partly_priced, unpriced, reported, coalesce(price_versions, '{{{{}}}}'), estimated_cost_usd,
            revision, final
        from merged
        on conflict do nothing
    )
    select count(*) from due"""

_TABLES = (
    {"table": "llm_metrics", "one": "route", "two": "model"},
    {"table": "llm_facets", "one": "facet", "two": "value"},
)


class Rollup:
    """`partitions` is how many stage two has. Every worker runs it; one at a time works."""

    def __init__(self, database: Database, partitions: int) -> None:
        self._database = database
        self._partitions = partitions

    async def run(self) -> None:
        """Add up what is due, now and then, for ever."""
        while True:
            more = False
            if not self._database.trouble:
                try:
                    more = await self.step()
                except (Unavailable, asyncpg.PostgresError) as error:
                    logger.warning("hours are added up later", reason=str(error))
            await asyncio.sleep(_PAUSE_S if more else EVERY_S)

    async def step(self) -> bool:
        """One transaction: some series of the oldest hour that is due, or on to the next; False when nothing is due."""
        async with reader(self._database.pool, STEP_S + 1) as connection, transaction(connection):
            await connection.execute(f"set local statement_timeout = '{STEP_S}s'")
            if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", _LOCK):
                return False
            hour, settled = await connection.fetchrow(_DUE, self._partitions)
            if settled is None or hour + HOUR > settled:
                return False
            begin = await connection.fetchval(_NEXT, hour)
            begin = hour_of(settled) if begin is None else min(hour_of(begin), hour_of(settled))
            if begin == hour:
                if await _add_up(connection, hour):
                    return True
                begin = hour + HOUR
            await connection.execute(_MOVE, hour, begin)
            return True


async def _add_up(connection: asyncpg.Connection, hour: datetime) -> bool:
    """Some series of an hour; False when all are there."""
    for names in _TABLES:
        if await connection.fetchval(_ADD_UP.format(**names), hour, hour + HOUR, SERIES):
            return True
    return False
