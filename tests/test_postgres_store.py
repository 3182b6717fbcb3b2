"""The guarded upsert: what it keeps, what it refuses, and how it behaves while Postgres is in trouble."""

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import psutil
import pytest

from postgres_fixtures import empty
from postgres_rows import MINUTE, NOON, booked, cell, metric
from streamlens.errors import BadSetting, Unavailable
from streamlens.postgres import connection as connections
from streamlens.postgres import queries
from streamlens.postgres import store as stores
from streamlens.postgres.embedded import EmbeddedPostgres
from streamlens.postgres.exact import exact_rows
from streamlens.postgres.migrate import migrate
from streamlens.postgres.rows import MetricRow
from streamlens.postgres.store import PostgresStore

FULL = metric(
    cell(
        [1, 1_000, 250_000, 3_600_000_000],
        [0, 80_000],
        errors=2,
        prompt_tokens=40_000_000,
        completion_tokens=5,
        cached_tokens=4,
        cache_write_tokens=3,
        reasoning_tokens=2,
        cost_pico=123_456_789_012_345_678_901,
        priced=3,
        unpriced=1,
        error_types={"timeout": 1, 'with "quotes" and ünïcode': 1},
    ),
    tenant_id="ünï|cöde\\",
    route="a b'c\"d\n\t",
    model="x" * 256,
    revision=7,
    final=True,
    version=(1 << 62, 1 << 40),
)


async def written(dsn: str) -> list[MetricRow]:
    return await exact_rows(dsn)


async def test_a_row_comes_back_exactly(store: PostgresStore, dsn: str) -> None:
    nothing = metric(cell([]), route="without a call")
    await store.write([FULL, nothing], [])
    assert await written(dsn) == [nothing, FULL]


@pytest.mark.parametrize(
    ("first", "second", "replaced"),
    [
        ((1, 1), (1, 2), True),
        ((1, 9), (2, 1), True),
        ((1, 9), (1, 10), True),
        ((1, 1), (1, 1), False),
        ((1, 2), (1, 1), False),
        ((2, 1), (1, 9), False),
    ],
    ids=str,
)
async def test_only_a_higher_version_replaces_a_row(
    store: PostgresStore, dsn: str, first: tuple[int, int], second: tuple[int, int], replaced: bool
) -> None:
    await store.write([metric(cell([1000]), first)], [booked(first, received=1)])
    # Lower numbers inside: it is the version that decides, not the content.
    await store.write([metric(cell([]), second, revision=0)], [booked(second, received=0)])
    assert [row.cell.calls for row in await written(dsn)] == [0 if replaced else 1]
    assert [row["received"] for row in await queries.ledger(store.pool)] == [0 if replaced else 1]


async def test_any_order_of_the_versions_ends_in_the_same_rows(store: PostgresStore, dsn: str) -> None:
    versions = [(1, 1), (1, 2), (2, 1), (10, 0)]
    for number, order in enumerate(itertools.permutations(versions)):
        for version in order:
            await store.write([metric(cell([1] * sum(version)), version, route=f"/{number}")], [])
    assert {(row.version, row.cell.calls) for row in await written(dsn)} == {((10, 0), 10)}


async def test_a_key_that_comes_twice_in_one_call_ends_at_its_highest_version(store: PostgresStore, dsn: str) -> None:
    twice = [metric(version=(1, epoch), revision=epoch) for epoch in (1, 3, 2)]
    await store.write(twice, [booked((1, epoch), received=epoch) for epoch in (1, 3, 2)])
    assert [row.revision for row in await written(dsn)] == [3]
    assert [row["received"] for row in await queries.ledger(store.pool)] == [3]


async def test_series_and_windows_have_rows_of_their_own(store: PostgresStore, dsn: str) -> None:
    rows = [
        metric(tenant_id=tenant, route=route, model=model, window_start_us=NOON + minute * MINUTE)
        for tenant, route, model, minute in itertools.product("AB", "ab", "xy", (0, 1))
    ]
    await store.write(rows, [])
    assert await written(dsn) == rows


async def test_a_call_writes_all_rows_or_none(store: PostgresStore, dsn: str) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await store.write([metric()], [booked(tenant_id="with a NUL: \0")])
    assert await written(dsn) == []
    await store.write([metric()], [booked()])
    assert await written(dsn) == [metric()]


async def test_calls_at_the_same_time_take_turns(store: PostgresStore, dsn: str) -> None:
    await asyncio.gather(*(store.write([metric(version=(1, epoch), revision=epoch)], []) for epoch in range(1, 21)))
    assert [row.revision for row in await written(dsn)] == [20]


async def test_other_tasks_get_turns_while_a_large_write_is_encoded() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counter = asyncio.create_task(count())
    records = [(number,) for number in range(10 * stores.TURN_ROWS)]
    assert [record async for record in stores._in_turns(records)] == records
    counter.cancel()
    assert 9 <= turns <= 10


async def test_a_cancelled_write_leaves_a_store_that_writes(store: PostgresStore, dsn: str) -> None:
    rows = [metric(route=f"/{number}") for number in range(5000)]
    task = asyncio.create_task(store.write(rows, []))
    await asyncio.wait([task], timeout=0.005)  # wherever that cuts it
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(rows, [])
    assert len(await written(dsn)) == len(rows)


async def test_a_lock_that_another_holds_ends_in_unavailable(
    store: PostgresStore, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write([metric()], [])
    other = await asyncpg.connect(dsn)
    async with other.transaction():
        await other.execute("lock table llm_metrics")
        with monkeypatch.context() as patch, pytest.raises(Unavailable):
            patch.setattr(stores, "WRITE_S", 0.1)
            await store.write([metric(version=(1, 2), revision=2)], [])
    await other.close()
    await store.write([metric(version=(1, 2), revision=2)], [])
    assert [row.revision for row in await written(dsn)] == [2]


async def test_nothing_to_write_needs_no_server() -> None:
    store = await PostgresStore.open("postgresql://nobody@/none?host=/nowhere")
    await store.write([], [])
    with pytest.raises(Unavailable):
        await store.write([metric()], [])
    with pytest.raises(Unavailable):
        await store.ping()
    assert not store.connected


async def test_a_database_that_does_not_exist_is_a_wrong_setting_at_the_start(postgres: str) -> None:
    with pytest.raises(BadSetting, match="POSTGRES_DSN"):
        await migrate(postgres.replace("/postgres?", "/missing?"))


@pytest.fixture
async def lone_store(lone_postgres: EmbeddedPostgres) -> AsyncIterator[PostgresStore]:
    dsn = lone_postgres.start()
    await migrate(dsn)
    await empty(dsn)
    store = await PostgresStore.open(dsn)
    yield store
    await store.close()


async def test_a_killed_server_costs_no_acknowledged_row_and_the_store_heals(
    lone_postgres: EmbeddedPostgres, lone_store: PostgresStore
) -> None:
    assert lone_postgres.pid
    await lone_store.write([metric()], [booked(received=1)])
    await lone_store.ping()
    psutil.Process(lone_postgres.pid).send_signal(signal.SIGKILL)
    with pytest.raises(Unavailable):
        # Backends may answer for a moment after their postmaster died.
        async with asyncio.timeout(5):
            while True:
                await lone_store.write([metric()], [])
    assert not lone_store.connected
    with pytest.raises(Unavailable):
        await lone_store.ping()
    with pytest.raises(Unavailable):
        await queries.metrics(lone_store.pool)

    dsn = lone_postgres.start()
    assert await written(dsn) == [metric()]
    await lone_store.write([metric(version=(1, 2), revision=2)], [])
    await lone_store.ping()
    assert lone_store.connected
    assert [row["revision"] for row in await queries.metrics(lone_store.pool)] == [2]


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a server and all its processes, as a host that hangs would."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children()]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.mark.parametrize("warm", [True, False], ids=["with a connection", "without one"])
async def test_a_silent_server_ends_in_unavailable_within_the_deadline(
    lone_postgres: EmbeddedPostgres, lone_store: PostgresStore, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    if warm:
        await lone_store.write([metric()], [])
        await asyncio.gather(*(queries.tenants(lone_store.pool) for _ in range(connections.READERS)))
    assert lone_postgres.pid
    with frozen(lone_postgres.pid), monkeypatch.context() as patch:
        patch.setattr(stores, "WRITE_S", 0.1)
        patch.setattr(stores, "PING_S", 0.1)
        for _ in range(connections.READERS + 1):  # none of the pool's connections may stay behind
            begin = time.monotonic()
            with pytest.raises(Unavailable):
                await lone_store.write([metric()], [])
            with pytest.raises(Unavailable):
                await lone_store.ping()
            assert time.monotonic() - begin < 1.5
    await lone_store.write([metric(version=(1, 2), revision=2)], [])
    await lone_store.ping()
    assert [row["revision"] for row in await queries.metrics(lone_store.pool)] == [2]


async def test_a_server_that_falls_silent_in_a_transaction_is_given_up_by_the_deadline(
    lone_postgres: EmbeddedPostgres, lone_store: PostgresStore
) -> None:
    assert lone_postgres.pid
    with contextlib.ExitStack() as stack, pytest.raises(Unavailable):
        reader = connections.reader(lone_store.pool, 0.3)
        async with asyncio.timeout(5), reader as connection, connections.transaction(connection):
            stack.enter_context(frozen(lone_postgres.pid))
            await connection.execute("select 1")
    await lone_store.ping()
