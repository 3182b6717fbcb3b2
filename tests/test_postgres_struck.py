"""What a write or a query makes of a server that ends it in the middle, and of being cancelled there."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import asyncpg
import pytest
import uvloop

from postgres_rows import metric
from streamlens.errors import Unavailable
from streamlens.postgres import connection as connections
from streamlens.postgres import store as stores
from streamlens.postgres.store import PostgresStore


async def test_who_is_cancelled_in_a_transaction_ends(store: PostgresStore) -> None:
    begun = asyncio.Event()

    async def asking() -> None:
        async with connections.reader(store.pool) as connection, connections.transaction(connection):
            begun.set()
            await connection.execute("select pg_sleep(60)")

    task = asyncio.create_task(asking())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def struck(dsn: str, monkeypatch: pytest.MonkeyPatch, strike: str, goes_on: bool) -> None:
    """A write whose COPY the server ends while we still send raises `Unavailable`, and the next one is written."""
    in_turns = stores._in_turns
    copying = "pg_stat_activity where datname = current_database() and state = 'active' and query like 'COPY%'"

    async def interrupted(records: Iterable[tuple[object, ...]]) -> AsyncIterator[tuple[object, ...]]:
        other = await asyncpg.connect(dsn)
        while not await other.fetchval(f"select bool_or({strike}) from {copying}"):
            pass
        ended = False
        async for record in in_turns(records):
            yield record  # a COPY ends when it gets more
            ended = ended or not await other.fetchval(f"select count(*) from {copying}")
            if ended and not goes_on:
                await asyncio.Event().wait()
        await other.close()

    store = await PostgresStore.open(dsn)
    with monkeypatch.context() as patch, pytest.raises(Unavailable):
        patch.setattr(stores, "_in_turns", interrupted)
        patch.setattr(stores, "WRITE_S", 2.0)
        async with asyncio.timeout(10):
            await store.write([metric(model=str(number) * 64) for number in range(1000, 3000)])
    await store.write([metric()])
    await store.close()


async def test_a_copy_that_the_server_ended_is_not_waited_for(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the process stood still for longer than a statement may take."""
    await struck(dsn, monkeypatch, "pg_cancel_backend(pid)", goes_on=False)


async def test_a_connection_that_the_server_closed_in_a_copy_is_unavailable(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On uvloop, as in the process, which says it in another way."""
    await asyncio.to_thread(uvloop.run, struck(dsn, monkeypatch, "pg_terminate_backend(pid)", goes_on=True))
