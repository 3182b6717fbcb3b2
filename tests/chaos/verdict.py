"""What must be true at the end: the rows are the oracle's, and the ledger says what became of each record."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from sys import intern

import asyncpg
import msgspec

from chaos.cluster import Cluster
from chaos.generator import LATE, POISON, Generator
from chaos.reader import Reader
from streamlens.errors import Unavailable
from streamlens.postgres.exact import exact_rows
from streamlens.simulate.oracle import compare
from streamlens.topics import CALLS, REQUESTS, RESPONSES

CAUGHT_UP_S = 120.0
Books = dict[str, Counter[str]]


class _Event(msgspec.Struct):
    tenant_id: str = ""


_decode = msgspec.json.Decoder(_Event).decode


async def caught_up(cluster: Cluster, reader: Reader, ends_early: Callable[[], bool] = lambda: False) -> list[str]:
    """Wait until the group has no lag and the ledger holds every record. Says what is missing at the deadline, or
    nothing when it ends early."""
    deadline = time.monotonic() + CAUGHT_UP_S
    state = ""
    while time.monotonic() < deadline:
        if ends_early():
            return []
        try:
            ends, lag = await cluster.ends(), await cluster.lag()
            if lag == 0 and reader.received == ends:
                return []
            state = f"lag {lag}, {ends} records in the topics, {reader.received} in the ledger"
        except Unavailable as error:
            state = str(error)
        await asyncio.sleep(0.5)
    return [f"not caught up within {CAUGHT_UP_S:g} s: {state}"]


async def differences(cluster: Cluster, generator: Generator) -> list[str]:
    """The rows against the oracle, the ledger against the topics, sentence by sentence."""
    rows = [msgspec.structs.asdict(row) | msgspec.structs.asdict(row.cell) for row in await exact_rows(cluster.dsn)]
    found = compare(list(generator.rows()), rows)
    told, read = await _told(cluster.dsn), await _read(cluster)
    for tenant in sorted(told.keys() | read.keys()):
        if (expected := read.get(tenant, Counter())) != (actual := told.get(tenant, Counter())):
            found.append(f"ledger of {tenant or '(no tenant)'}: {dict(actual)}, expected {dict(expected)}")
    records, ends = sum(books["received"] for books in read.values()), await cluster.ends()
    if records != ends:
        found.append(f"{records} records were read, the topics end at {ends}")
    if records < generator.made:
        found.append(f"the topics hold {records} records, {generator.made} were acknowledged")
    return found


async def _told(dsn: str) -> Books:
    """The ledger's totals by tenant. Halves that wait are one number: when they become orphans is a matter of time."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "select tenant_id, sum(received)::bigint as received, sum(aggregated)::bigint as aggregated,"
        " sum(pending + orphaned)::bigint as waiting, sum(duplicate)::bigint as duplicate, sum(late)::bigint as late,"
        " sum(rejected)::bigint as rejected from llm_ledger group by tenant_id"
    )
    await connection.close()
    return {row["tenant_id"]: Counter({k: v for k, v in row.items() if k != "tenant_id" and v}) for row in rows}


async def _read(cluster: Cluster) -> Books:
    """The same totals, counted from the records in the topics."""
    books: Books = {}
    halves: dict[str, dict[str, str]] = {REQUESTS: {}, RESPONSES: {}, CALLS: {}}

    def book(tenant: str, column: str, events: int = 1) -> None:
        books.setdefault(tenant, Counter()).update({"received": events, column: events})

    async for topic, key, value in cluster.records():
        if key == POISON:
            book("", "rejected")
            continue
        request_id = key.decode()
        tenant = intern(_decode(value).tenant_id)  # millions of ids, a handful of tenants
        if request_id.startswith(LATE):
            book(tenant, "late")
        elif request_id in halves[topic]:
            book(tenant, "duplicate")
        else:
            halves[topic][request_id] = tenant
    for tenant in halves[CALLS].values():
        book(tenant, "aggregated")
    for request_id, tenant in halves[REQUESTS].items():
        book(tenant, *(("aggregated", 2) if halves[RESPONSES].pop(request_id, None) is not None else ("waiting", 1)))
    if halves[RESPONSES]:
        book("", "waiting", len(halves[RESPONSES]))
    return books
