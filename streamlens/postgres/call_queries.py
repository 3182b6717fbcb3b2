"""The questions about calls that are kept whole. Functions take the pool of `PostgresStore` and raise `Unavailable`."""

from typing import Annotated, Any, Literal, get_args

import asyncpg
import msgspec
import orjson
from msgspec import Meta

from streamlens.events import time_us
from streamlens.postgres.connection import reader
from streamlens.postgres.queries import plain
from streamlens.postgres.rows import time_of

Order = Literal["newest", "slowest", "oldest"]

_COLUMNS = """id, tenant_id, request_id, at, route, model, provider,
        latency_us / 1e3::float8 as latency_ms, ttft_us / 1e3::float8 as ttft_ms, latency_us,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, estimated_cost_usd,
        error_type, error_type_raw, error, finish_reason, user_id_hash, session_id,
        experiment, variant, prompt_version, model_version, region, kept"""
_WHOLE = "client_app, client_os, stream, metadata, prompt, response"
_ORDERS: dict[Order, tuple[str, str]] = {
    "newest": ("(at, id) < ({}, {})", "at desc, id desc"),
    "slowest": ("(latency_us, id) < ({}, {})", "latency_us desc, id desc"),
    "oldest": ("(at, id) > ({}, {})", "at, id"),
}
"""What comes after a place, and the order."""
MOST_OF_ONE = 100
"""An id has one call of a tenant, unless it was used again after it was forgotten."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A call's place in an order."""

    order: Order
    value: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    """Its time or its latency in microseconds."""
    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls are meant: None where any is; those at [from, to), kept for one of the reasons in `kept`."""

    tenant_id: str | None = None
    route: str | None = None
    model: str | None = None
    kept: tuple[str, ...] | None = None
    error_type: str | None = None
    session_id: str | None = None
    from_us: int | None = None
    to_us: int | None = None


async def kept_calls(
    pool: asyncpg.Pool, chosen: Chosen, limit: int, order: Order = "newest", after: Place | None = None
) -> tuple[list[dict[str, Any]], Place | None]:
    """Calls shaped as in `GET /v1/calls`, and the place of the last one if there may be more."""
    where, values = _where(chosen)
    beyond, by = _ORDERS[order]
    if after is not None:
        values += [after.value if order == "slowest" else time_of(after.value), bytes.fromhex(after.id)]
        where += " and " + beyond.format(f"${len(values) - 1}", f"${len(values)}")
    query = f"select {_COLUMNS} from llm_calls where {where} order by {by} limit {limit:d}"
    async with reader(pool) as connection:
        rows = await connection.fetch(query, *values)
    last = _place(rows[-1], order) if len(rows) == limit else None
    return [_told(row) for row in rows], last


async def kept_call(pool: asyncpg.Pool, tenant_id: str | None, request_id: str) -> list[dict[str, Any]]:
    """The calls of an id, newest first, shaped as in `GET /v1/calls/{request_id}`: of several tenants, or none."""
    where, values = _where(Chosen(tenant_id=tenant_id))
    values.append(request_id)
    query = f"""select {_COLUMNS}, {_WHOLE} from llm_calls where {where} and request_id = ${len(values)}
        order by at desc, id desc limit {MOST_OF_ONE}"""
    async with reader(pool) as connection:
        rows = await connection.fetch(query, *values)
    return [_told(row) | _whole(row) for row in rows]


def _where(chosen: Chosen) -> tuple[str, list[Any]]:
    """The conditions that are given, and no others, so that each has its index; and their values."""
    values: list[Any] = []
    conditions = ["kept <> '{}'"]
    for condition, value in (
        ("tenant_id = ${}", chosen.tenant_id),
        ("route = ${}", chosen.route),
        ("model = ${}", chosen.model),
        ("kept && ${}::text[]", chosen.kept),
        ("error_type = ${}", chosen.error_type),
        ("session_id = ${}", chosen.session_id),
        ("at >= ${}", None if chosen.from_us is None else time_of(chosen.from_us)),
        ("at < ${}", None if chosen.to_us is None else time_of(chosen.to_us)),
    ):
        if value is not None:
            values.append(value)
            conditions.append(condition.format(len(values)))
    return " and ".join(conditions), values


def _place(row: asyncpg.Record, order: Order) -> Place:
    return Place(order, row["latency_us"] if order == "slowest" else time_us(row["at"]), row["id"].hex())


def _told(row: asyncpg.Record) -> dict[str, Any]:
    return {name: value for name, value in plain(row).items() if name not in _HIDDEN}


def _whole(row: asyncpg.Record) -> dict[str, Any]:
    client = {"app": row["client_app"], "os": row["client_os"]}
    return {
        "client": client if any(client.values()) else None,
        "stream": row["stream"],
        "metadata": None if row["metadata"] is None else orjson.loads(row["metadata"]),
        "prompt": row["prompt"],
        "response": row["response"],
    }


_HIDDEN = {"id", "latency_us", *_WHOLE.split(", ")}
assert set(_ORDERS) == set(get_args(Order))
