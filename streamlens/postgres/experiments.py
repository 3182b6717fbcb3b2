"""Variants of experiments in Postgres: the rows of `llm_experiments`, and what is asked of them.

Questions raise `Unavailable` as those of `queries.py` do, and take values as parameters only.
"""

from fractions import Fraction
from typing import Any

import asyncpg
import msgspec
import orjson

from streamlens.moments import Variant
from streamlens.postgres.connection import reader
from streamlens.postgres.queries import moment, plain
from streamlens.postgres.rows import time_of

MOST_VARIANTS = 200
"""Of an experiment, by name, in an answer."""


class ExperimentRow(msgspec.Struct, frozen=True, gc=False):
    """A window of one variant, of `llm_experiments`. A higher `version` replaces a lower one."""

    tenant_id: str
    experiment: str
    variant: str
    window_start_us: int
    window_us: int
    sums: Variant
    version: tuple[int, int]


EXPERIMENT_COLUMNS = "tenant_id experiment variant window_start window_end calls measures version"


def experiment_record(row: ExperimentRow) -> tuple[Any, ...]:
    """The values of `EXPERIMENT_COLUMNS`."""
    return (
        row.tenant_id,
        row.experiment,
        row.variant,
        time_of(row.window_start_us),
        time_of(row.window_start_us + row.window_us),
        row.sums.errors.count,
        orjson.Fragment(_measures(row.sums)),
        row.version,
    )


def _measures(sums: Variant) -> bytes:
    """Name to [count, sum, sum of squares] as JSON, whose numbers have as many digits as it takes."""
    return b"{%s}" % b",".join(
        b"%s:[%d,%de-%d,%de-%d]" % (orjson.dumps(name), each.count, each.sum, digits, each.squares, 2 * digits)
        for name, digits, each in sums.measures()
    )


class Measured(msgspec.Struct, frozen=True):
    """What was measured of one variant, exactly, in the unit of the metric. `calls` may be more than `count`."""

    variant: str
    calls: int
    count: int
    sum: Fraction
    squares: Fraction


_EXPERIMENTS = f"""
    with variants as (
        select tenant_id, experiment, variant,
            sum(calls)::bigint as calls, min(window_start) as first_at, max(window_start) as last_at
        from llm_experiments
        where ($1::text is null or tenant_id = $1)
            and ($2::timestamptz is null or window_start >= $2) and ($3::timestamptz is null or window_start < $3)
        group by 1, 2, 3
    )
    select tenant_id, experiment, (array_agg(variant order by variant))[1:{MOST_VARIANTS}] as variants,
        sum(calls)::bigint as calls, min(first_at) as first_at, max(last_at) as last_at
    from variants
    group by 1, 2
    order by last_at desc, 1, 2
    limit $4"""

# The ends of the index: two steps, however many rows there are.
_TENANTS = "select min(tenant_id), max(tenant_id) from llm_experiments where experiment = $1"

_MOMENTS = "select * from experiment_moments($1, $2, $3, $4, $5) limit $6"


async def experiments(
    pool: asyncpg.Pool, tenant_id: str | None, from_us: int | None, to_us: int | None, limit: int
) -> list[dict[str, Any]]:
    """A row per tenant and experiment with windows that start in [from, to), as in `GET /v1/experiments`."""
    async with reader(pool) as connection:
        found = await connection.fetch(_EXPERIMENTS, tenant_id, moment(from_us), moment(to_us), limit)
    return [plain(row) for row in found]


async def tenants_of(pool: asyncpg.Pool, experiment: str) -> list[str]:
    """The tenants that have an experiment of this name: none, the one, or two of them."""
    async with reader(pool) as connection:
        first, last = await connection.fetchrow(_TENANTS, experiment)
    return sorted({first, last} - {None})


async def moments(
    pool: asyncpg.Pool, tenant_id: str, experiment: str, metric: str, from_us: int | None, to_us: int | None
) -> list[Measured]:
    """What was measured in the windows that start in [from, to), by variant; [] when there is no such experiment."""
    asked = (tenant_id, experiment, metric, moment(from_us), moment(to_us), MOST_VARIANTS)
    async with reader(pool) as connection:
        found = await connection.fetch(_MOMENTS, *asked)
    return [
        Measured(row["variant"], row["calls"], row["count"], Fraction(row["sum"]), Fraction(row["squares"]))
        for row in found
    ]
