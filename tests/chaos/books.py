"""The ledger's totals by tenant: as Postgres tells them, and as the records in the topics say that they must be."""

from collections import Counter
from collections.abc import AsyncIterator
from hashlib import blake2b
from sys import intern

import asyncpg
import msgspec

from chaos import poison
from chaos.generator import LATE
from streamlens.topics import CALLS, EVALUATIONS, INPUTS, OBSERVATIONS, REQUESTS, RESPONSES, SOURCES

Books = dict[str, Counter[str]]


class _Event(msgspec.Struct):
    request_id: str
    tenant_id: str = ""
    name: str = ""
    evaluator: str = ""


_decode = msgspec.json.Decoder(_Event).decode


async def told(dsn: str) -> Books:
    """What the ledger holds. Halves that wait are one number: when they become orphans is a matter of time."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "select tenant_id, sum(received)::bigint as received, sum(aggregated)::bigint as aggregated,"
        " sum(pending + orphaned)::bigint as waiting, sum(duplicate)::bigint as duplicate, sum(late)::bigint as late,"
        " sum(rejected)::bigint as rejected from llm_ledger group by tenant_id"
    )
    await connection.close()
    return {row["tenant_id"]: Counter({k: v for k, v in row.items() if k != "tenant_id" and v}) for row in rows}


async def read(records: AsyncIterator[tuple[str, bytes, bytes]]) -> Books:
    """The same, counted from the (topic, key, value) of everything in the input topics."""
    books: Books = {}
    seen: dict[str, dict[str | bytes, str]] = {topic: {} for topic in SOURCES}

    def book(tenant: str, column: str, events: int = 1) -> None:
        books.setdefault(tenant, Counter()).update({"received": events, column: events})

    async for topic, key, value in records:
        if key == poison.KEY:
            book("", "rejected")
            continue
        event = _decode(value)
        tenant = intern(event.tenant_id)  # millions of ids, a handful of tenants
        if event.request_id.startswith(LATE):
            book(tenant, "late")
        elif (identity := _identity(topic, event, value)) in seen[topic]:
            book(tenant, "duplicate")
        else:
            seen[topic][identity] = tenant
    for topic in (CALLS, *OBSERVATIONS):
        for tenant in seen[topic].values():
            book(tenant, "aggregated")
    responses = seen[RESPONSES].keys()
    for request_id, tenant in seen[REQUESTS].items():
        book(tenant, *(("aggregated", 2) if request_id in responses else ("waiting", 1)))
    if alone := len(responses - seen[REQUESTS].keys()):
        book("", "waiting", alone)
    return books


def _identity(topic: str, event: _Event, value: bytes) -> str | bytes:
    if topic in INPUTS:
        return event.request_id
    if topic == EVALUATIONS:
        return f"{event.request_id} {event.name} {event.evaluator}"
    return blake2b(value, digest_size=16).digest()
