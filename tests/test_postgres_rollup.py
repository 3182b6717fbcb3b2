"""Hours in a real Postgres: what is answered from them is what their minutes say, whoever writes, adds up or dies."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import datetime
from random import Random
from types import SimpleNamespace
from typing import Any

import asyncpg
import orjson
import pytest

from postgres_rows import MINUTE, NOON, cell
from streamlens.cell import Cell
from streamlens.errors import Unavailable
from streamlens.events import time_us
from streamlens.histogram import quantiles
from streamlens.postgres import queries, retention, rollup
from streamlens.postgres.queries import SERIES
from streamlens.postgres.retention import Retention
from streamlens.postgres.rollup import Rollup
from streamlens.postgres.rows import FacetRow, MetricRow, SettledRow, time_of
from streamlens.postgres.store import PostgresStore
from streamlens.settings import Settings

HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
HOURS = 30
FIRST = NOON - 20 * HOUR
"""`HOURS` hours from here on have rows: on three days."""
VERSIONS = ["genai-prices 1", "overrides a"]

# Hours that count, and are not the sum of their minutes; `least` is any hour, so nothing before it was deleted.
_WRONG = """
    with hours as (
        select tenant_id, {one}, {two}, window_start, requests, errors, error_types, latency_sum_us, latency_zero,
            latency_index, latency_count, ttft_requests, ttft_index, ttft_count, prompt_tokens, estimated_cost_usd,
            price_versions, revision, final
        from {table}_hourly where window_start < (select hours_until from llm_history)
    ), merged as (
        select tenant_id, {one}, {two}, date_bin('1 hour', window_start, 'epoch') as window_start,
            sum(requests)::bigint as requests, sum(errors)::bigint as errors, counts_merge(error_types) as error_types,
            sum(latency_sum_us)::bigint as latency_sum_us,
            histogram_merge(latency_zero, latency_index, latency_count) as latency,
            sum(ttft_requests)::bigint as ttft_requests, histogram_merge(ttft_zero, ttft_index, ttft_count) as ttft,
            sum(prompt_tokens)::bigint as prompt_tokens, sum(estimated_cost_usd) as estimated_cost_usd,
            counts_merge(price_versions) as price_versions, sum(revision)::bigint as revision, bool_and(final) as final
        from {table} where window_start < (select hours_until from llm_history) group by 1, 2, 3, 4
    ), minutes as (
        select tenant_id, {one}, {two}, window_start, requests, errors, error_types, latency_sum_us, (latency).zero,
            (latency).index, (latency).count, ttft_requests, (ttft).index, (ttft).count, prompt_tokens,
            estimated_cost_usd, price_versions, revision, final
        from merged
    )
    (table hours except table minutes) union all (table minutes except table hours)"""
WRONG = " union all ".join(
    f"(select '{table}' as t, w::text from ({_WRONG.format(table=table, one=one, two=two)}) as w)"
    for table, one, two in (("llm_metrics", "route", "model"), ("llm_facets", "facet", "value"))
)


def content(random: Random) -> Cell:
    """A cell with something in every column."""
    latencies = [random.randrange(0, 5_000_000) * random.randrange(2) for _ in range(random.randrange(1, 6))]
    failed, priced = random.randrange(len(latencies) + 1), random.randrange(len(latencies) + 1)
    return cell(
        latencies,
        [each // 3 for each in latencies[: random.randrange(len(latencies) + 1)]],
        errors=failed,
        error_types={random.choice(["timeout", "other"]): failed} if failed else {},
        prompt_tokens=random.randrange(1000),
        completion_tokens=random.randrange(1000),
        priced=priced,
        unpriced=len(latencies) - priced,
        cost_pico=random.randrange(10**15) if priced else 0,
        price_versions={random.choice(VERSIONS): priced} if priced else {},
    )


def row(random: Random, at_us: int, version: int) -> MetricRow:
    """A row of some series or facet's value, of the minute at `at_us`."""
    tenant, made = random.choice("AB"), content(random)
    if random.randrange(3):
        series = (tenant, random.choice(["/a", "/b"]), random.choice("xy"))
        return MetricRow(*series, at_us, MINUTE, made, version, True, (1, version))
    return FacetRow(tenant, "region", random.choice(["eu", "us"]), at_us, MINUTE, made, version, True, (1, version))


def key(row: MetricRow) -> tuple[Any, ...]:
    return (type(row), row.tenant_id, row.route, row.model, row.window_start_us)


class World:
    """Rows of 30 hours, some revised, as stage two would have written them."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.database: Any = SimpleNamespace(pool=store.pool, trouble="")
        self.rollup = Rollup(self.database, partitions=2)
        self.rows: dict[tuple[Any, ...], MetricRow] = {}

    async def fill(self, random: Random, count: int = 600) -> None:
        given = [row(random, FIRST + random.randrange(HOURS * 60) * MINUTE, n) for n in range(count)]
        given += [
            row(random, each.window_start_us, count + n) for n, each in enumerate(random.sample(given, count // 4))
        ]
        for each in given:
            self.rows[key(each)] = each
        await self.store.write(given)

    async def settle(self, until_us: int, partitions: Iterable[int] = (0, 1)) -> None:
        await self.store.write([SettledRow(p, until_us, (1, until_us)) for p in partitions])

    async def add_up(self) -> int:
        """Add up all that is due; returns up to where. The lock of a roller that died goes when its server notices."""
        until_us = await self._time("select min(settled_until) from llm_settled") // HOUR * HOUR
        async with asyncio.timeout(30):
            while await self.hours_until() < until_us:
                await self.rollup.step()
        assert not await self.rollup.step()
        return until_us

    async def ask(self, **asked: Any) -> bytes:
        return orjson.dumps(await queries.metrics(self.store.pool, limit=10_000, **asked))

    async def hours_until(self) -> int:
        return await self._time("select hours_until from llm_history")

    async def _time(self, query: str) -> int:
        return time_us(await self.store.pool.fetchval(query))

    def expected(self, step_us: int, groups: tuple[str, ...], facet: str | None, begin: int, end: int) -> list[Any]:
        """What merged rows say, without SQL: newest first."""
        merged: dict[tuple[Any, ...], tuple[Cell, int]] = {}
        for each in self.rows.values():
            at = each.window_start_us
            if isinstance(each, FacetRow) != bool(facet) or not begin <= at < end:
                continue
            one = each.route if facet or "route" in groups else None
            two = each.model if facet or "model" in groups else None
            place = (-(at - at % step_us), each.tenant_id, one or "", two or "")
            total, revisions = merged.get(place, (Cell(latency={}, ttft={}, error_types={}, price_versions={}), 0))
            total.merge(each.cell)
            merged[place] = (total, revisions + each.revision)
        return [(*place, *_told(*merged[place])) for place in sorted(merged)]


def _told(cell: Cell, revisions: int) -> tuple[Any, ...]:
    quantile = quantiles((0.5, 0.95), cell.latency_zero, cell.latency, cell.latency_min_us, cell.latency_max_us)
    return (
        cell.calls,
        cell.errors,
        revisions,
        cell.prompt_tokens,
        cell.total_pico / 10**12 if cell.priced else None,
        sorted(cell.price_versions),
        cell.latency_min_us / 1000,
        pytest.approx(cell.latency_sum_us / 1000 / cell.calls),
        *(pytest.approx((value or 0) / 1000, rel=1e-12) for value in quantile),
    )


def _seen(found: dict[str, Any], names: tuple[str, str]) -> tuple[Any, ...]:
    columns = ("requests", "errors", "revision", "prompt_tokens", "estimated_cost_usd", "price_versions")
    latencies = ("min_latency_ms", "avg_latency_ms", "p50_latency_ms", "p95_latency_ms")
    place = (
        -time_us(datetime.fromisoformat(found["window_start"])),
        found["tenant_id"],
        *(found[name] or "" for name in names),
    )
    return (*place, *(found[name] for name in columns + latencies))


@pytest.fixture
async def world(store: PostgresStore) -> AsyncIterator[World]:
    yield World(store)


QUESTIONS = [
    {"step_us": step, "group_by": groups, "facet": facet, "from_us": begin, "to_us": end}
    for step, groups, facet in (
        (HOUR, SERIES, None),
        (HOUR, SERIES, "region"),
        (DAY, (), None),
        (DAY, ("route",), None),
        (5 * MINUTE, (), None),
    )
    for begin, end in (
        (None, None),
        (FIRST + 90 * MINUTE + 1, None),
        (FIRST + 130 * MINUTE, FIRST + 20 * HOUR + 7 * MINUTE),
        (FIRST + 3 * HOUR, FIRST + 4 * HOUR),
        (FIRST + 3 * HOUR + MINUTE, FIRST + 4 * HOUR - MINUTE),
    )
]


SPANS = [(0, NOON + DAY)] + [
    (asked["from_us"], asked["to_us"] or NOON + DAY) for asked in QUESTIONS[:5] if asked["from_us"]
]
_BETWEEN = " union all ".join(
    f"""(select {table == "llm_facets"} as facets, tenant_id, sum(requests) as requests, sum(latency_sum_us) as latency,
        histogram_merge(latency_zero, latency_index, latency_count)::text as histogram, sum(revision) as revision,
        counts_merge(error_types) as error_types, sum(estimated_cost_usd) as cost
    from {table}_between($1, $2) group by tenant_id)"""
    for table in ("llm_metrics", "llm_facets")
)
_BETWEEN += " order by facets, tenant_id"


@pytest.mark.parametrize("seed", range(2))
async def test_hours_say_what_their_minutes_say(world: World, seed: int) -> None:
    await world.fill(Random(seed))
    before = [await world.ask(**asked) for asked in QUESTIONS]
    for asked, answer in zip(QUESTIONS, before, strict=True):
        begin, end = asked["from_us"] or 0, asked["to_us"] or NOON + DAY
        names = ("facet", "value") if asked["facet"] else SERIES
        expected = world.expected(asked["step_us"], asked["group_by"], asked["facet"], begin, end)
        assert [_seen(each, names) for each in orjson.loads(answer)] == expected
    between = {span: await world.store.pool.fetch(_BETWEEN, *map(time_of, span)) for span in SPANS}
    assert [sum(row["requests"] for row in between[span] if not row["facets"]) for span in SPANS] == [
        sum(
            each.cell.calls for each in world.rows.values() if type(each) is MetricRow and a <= each.window_start_us < b
        )
        for a, b in SPANS
    ]
    lists = [await queries.tenants(world.store.pool), await queries.series(world.store.pool, "A")]
    for settled in (FIRST + 59 * MINUTE, FIRST + 7 * HOUR + 13 * MINUTE, FIRST + HOURS * HOUR):
        await world.settle(settled)
        assert await world.add_up() == settled - settled % HOUR
        assert await world.store.pool.fetch(WRONG) == []
        assert [await world.ask(**asked) for asked in QUESTIONS] == before
        for begin, end in SPANS:
            assert await world.store.pool.fetch(_BETWEEN, time_of(begin), time_of(end)) == between[begin, end]
    assert [await queries.tenants(world.store.pool), await queries.series(world.store.pool, "A")] == lists


async def test_an_hour_waits_for_all_partitions(world: World) -> None:
    await world.fill(Random(1), 50)
    await world.settle(FIRST + DAY, [0])
    assert not await world.rollup.step()
    await world.settle(FIRST + HOUR - 1, [1])
    assert await world.add_up() == FIRST
    await world.settle(FIRST + HOUR, [1])
    assert await world.add_up() == FIRST + HOUR


async def test_when_minutes_are_gone_hours_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_PAUSE_S", 0)
    await world.fill(Random(4))
    old = next(each for each in world.rows.values() if type(each) is MetricRow and each.window_start_us < FIRST + HOUR)
    whole = [asked | {"from_us": None, "to_us": None} for asked in QUESTIONS if asked["step_us"] >= HOUR]
    before = [await world.ask(**asked) for asked in whole]
    one_hour = {"step_us": HOUR, "from_us": FIRST + 3 * HOUR, "to_us": FIRST + 4 * HOUR}
    third = await world.ask(**one_hour)

    async def sweep(**days: float) -> int:
        return await Retention(world.database, Settings(**days), lambda: FIRST + 3 * DAY).sweep()

    assert await sweep(retention_days=1) == 0, "no hour is there yet"
    await world.settle(FIRST + 10 * HOUR + 1)
    await world.add_up()
    assert await sweep(retention_days=0) == 0
    assert await sweep(retention_days=1) == sum(
        each.window_start_us < FIRST + 10 * HOUR for each in world.rows.values()
    )
    assert [await world.ask(**asked) for asked in whole] == before
    assert await world.ask(**one_hour) == third
    assert (
        await world.ask(**one_hour | {"step_us": MINUTE})
        == await world.ask(**one_hour | {"step_us": 5 * MINUTE})
        == b"[]"
    )
    parted = await world.ask(step_us=HOUR, from_us=FIRST + 90 * MINUTE, to_us=FIRST + 4 * HOUR - 1)
    assert parted == await world.ask(step_us=HOUR, from_us=FIRST + 2 * HOUR, to_us=FIRST + 3 * HOUR)
    # A worker that was frozen since then comes back with what it had to write.
    await world.store.write([old])
    assert [await world.ask(**asked) for asked in whole] == before
    for step in (MINUTE, 5 * MINUTE):
        assert await world.ask(step_us=step, from_us=FIRST, to_us=FIRST + HOUR) == b"[]"
    assert await sweep(retention_days=1) == 1
    assert await sweep(retention_days=0, hourly_retention_days=1) > 0, "their minutes are gone"
    left = orjson.loads(await world.ask(step_us=DAY, group_by=()))
    assert left == [each for each in orjson.loads(before[whole.index(_DAYS)]) if each["window_start"] >= "2026-11-18"]


_DAYS = {"step_us": DAY, "group_by": (), "facet": None, "from_us": None, "to_us": None}


async def test_a_roller_may_die_after_any_statement(world: World, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "SERIES", 3)
    await world.fill(Random(5))
    before = [await world.ask(**asked) for asked in QUESTIONS]
    await world.settle(FIRST + 5 * HOUR)
    for statements in range(1, 12):
        steps = 0
        for attempt in range(3):
            with suppress(Unavailable):
                while await _dying_after(dsn, statements, world):
                    steps += 1
            assert await world.store.pool.fetch(WRONG) == [], (statements, attempt)
    assert [await world.ask(**asked) for asked in QUESTIONS] == before
    assert await world.add_up() == FIRST + 5 * HOUR
    assert [await world.ask(**asked) for asked in QUESTIONS] == before


async def _dying_after(dsn: str, statements: int, world: World) -> bool:
    """A step of a roller whose process dies after so many statements; its server notices."""
    seen = 0

    async def mortal(connection: asyncpg.Connection) -> None:
        def count(_: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == statements:
                connection.terminate()

        connection.add_query_logger(count)

    async with asyncpg.create_pool(dsn, min_size=0, max_size=1, init=mortal) as pool:
        database: Any = SimpleNamespace(pool=pool, trouble="")
        try:
            return await Rollup(database, 2).step()
        finally:
            pool.terminate()


async def test_writers_rollers_and_kills_at_once(world: World, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two partitions write and revise what is not settled, zombies repeat the past, and rollers die all the time."""
    monkeypatch.setattr(rollup, "SERIES", 2)
    random = Random(6)
    settled = dict.fromkeys((0, 1), FIRST)
    over = asyncio.Event()

    async def write(partition: int) -> None:
        store, version = await PostgresStore.open(dsn), 0
        given: list[MetricRow] = []
        while settled[partition] < FIRST + 12 * HOUR:
            version += 1
            at = range(settled[partition], settled[partition] + 3 * HOUR, MINUTE)
            rows = [row(random, random.choice(at), 100 * version + n) for n in range(20)]
            rows = [each for each in rows if (each.model in "x eu") == bool(partition)]  # the others' are not its own
            await store.write(rows + random.sample(given, min(5, len(given))))
            given += rows
            for each in rows:
                if key(each) not in world.rows or world.rows[key(each)].version < each.version:
                    world.rows[key(each)] = each
            settled[partition] += random.randrange(20) * MINUTE
            await store.write([SettledRow(partition, settled[partition], (1, version))])
        await store.close()

    async def roll(patience_s: float) -> None:
        pool = await asyncpg.create_pool(dsn, min_size=0, max_size=1)
        database: Any = SimpleNamespace(pool=pool, trouble="")
        while not over.is_set():
            with suppress(TimeoutError, Unavailable, asyncpg.PostgresError):
                async with asyncio.timeout(random.random() * patience_s):
                    while await Rollup(database, 2).step():
                        pass
            await asyncio.sleep(0)
        pool.terminate()

    async def kill() -> None:
        while not over.is_set():
            await world.store.pool.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                " and query like '%with due as%' and pid <> pg_backend_pid()"
            )
            await asyncio.sleep(random.random() / 20)

    async def look() -> int:
        looked = 0
        while not over.is_set():
            assert await world.store.pool.fetch(WRONG) == []
            looked += 1
        return looked

    looking = asyncio.create_task(look())
    rolling = [asyncio.create_task(each) for each in (roll(0.02), roll(0.2), kill())]
    await asyncio.gather(write(0), write(1))
    over.set()
    await asyncio.gather(*rolling)
    assert await looking > 3
    assert await world.add_up() > FIRST + 11 * HOUR
    assert await world.store.pool.fetch(WRONG) == []
    found = orjson.loads(await world.ask(step_us=HOUR))
    assert [_seen(each, SERIES) for each in found] == world.expected(HOUR, SERIES, None, 0, NOON + DAY)
