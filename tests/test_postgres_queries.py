"""The answers that the HTTP API gives, on rows as the store writes them."""

from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from postgres_rows import MINUTE, NOON, booked, cell, metric
from streamlens.histogram import quantile
from streamlens.postgres import queries
from streamlens.postgres.connection import reader
from streamlens.postgres.rows import MetricRow, time_of
from streamlens.postgres.store import PostgresStore
from streamlens.postgres.windows import looked_back

HOUR = 60 * MINUTE
DAY = 24 * HOUR


def minute(number: int, **fields: Any) -> MetricRow:
    return metric(window_start_us=NOON + number * MINUTE, **fields)


def starts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["window_start"][11:16] for row in rows]


async def test_a_minute_row_has_the_fields_and_units_of_the_contract(store: PostgresStore) -> None:
    content = cell(
        [100_000, 300_000],
        [50_000],
        errors=1,
        prompt_tokens=30,
        completion_tokens=5,
        cached_tokens=4,
        reasoning_tokens=2,
        cost_pico=1_250_000_000_001,
        priced=1,
        partly_priced=1,
        unpriced=1,
        price_versions={"genai-prices 1": 1},
        error_types={"timeout": 1},
    )
    await store.write([metric(content, revision=3, final=True)], [])
    (row,) = await queries.metrics(store.pool)
    approximate = {name: row.pop(name) for name in list(row) if name.startswith("p") and name.endswith("_ms")}
    assert row == {
        "tenant_id": "acme",
        "route": "/chat",
        "model": "gpt-5",
        "window_start": "2026-11-18T12:00:00Z",
        "window_end": "2026-11-18T12:01:00Z",
        "requests": 2,
        "errors": 1,
        "avg_latency_ms": 200.0,
        "min_latency_ms": 100.0,
        "max_latency_ms": 300.0,
        "avg_prompt_tokens": 15.0,
        "avg_completion_tokens": 2.5,
        "prompt_tokens": 30,
        "completion_tokens": 5,
        "cached_tokens": 4,
        "cache_write_tokens": 0,
        "reasoning_tokens": 2,
        "error_rate": 0.5,
        "estimated_cost_usd": 1.250000000001,
        "priced": 1,
        "partly_priced": 1,
        "unpriced": 1,
        "reported": 0,
        "price_versions": ["genai-prices 1"],
        "revision": 3,
        "final": True,
    }
    exact = {"p50_latency_ms": 100, "p95_latency_ms": 300, "p99_latency_ms": 300, "p95_ttft_ms": 50}
    assert approximate == pytest.approx(exact, rel=0.011)


@pytest.mark.parametrize("step", [MINUTE, HOUR])
async def test_what_is_not_known_is_null_and_what_is_free_is_zero(store: PostgresStore, step: int) -> None:
    unknown = metric(cell([1000], unpriced=1), model="unpriced")
    free = metric(cell([1000], priced=1), model="free")
    await store.write([unknown, free], [])
    rows = {row["model"]: row for row in await queries.metrics(store.pool, step_us=step)}
    assert (rows["unpriced"]["estimated_cost_usd"], rows["unpriced"]["unpriced"]) == (None, 1)
    assert (rows["free"]["estimated_cost_usd"], rows["free"]["unpriced"]) == (0.0, 0)
    assert rows["free"]["p95_ttft_ms"] is None
    assert orjson.dumps(list(rows.values()))


@pytest.mark.parametrize("step", [MINUTE, HOUR])
async def test_a_row_names_the_prices_of_all_its_calls(store: PostgresStore, step: int) -> None:
    first = cell([1] * 5, priced=4, partly_priced=2, unpriced=1, reported=1, price_versions={"b 2": 1, "a 1": 2})
    later = cell([1] * 3, priced=3, reported=1, price_versions={"c 3": 1, "a 1": 1})
    none = cell([1], priced=1, reported=1)
    names = ("priced", "partly_priced", "unpriced", "reported", "price_versions")
    await store.write([minute(0, content=first), minute(1, content=later), minute(2, content=none)], [])
    rows = [tuple(row[name] for name in names) for row in await queries.metrics(store.pool, step_us=step)]
    if step == MINUTE:
        assert rows == [(1, 0, 0, 1, []), (3, 0, 0, 1, ["a 1", "c 3"]), (4, 2, 1, 1, ["a 1", "b 2"])]
    else:
        assert rows == [(8, 2, 1, 3, ["a 1", "b 2", "c 3"])]


async def test_a_longer_step_has_the_percentiles_of_the_merged_histograms(store: PostgresStore) -> None:
    fast, slow = cell([1_000] * 99, [10] * 99), cell([5_000_000] * 3, [4_000_000] * 3)
    await store.write([minute(0, content=fast), minute(1, content=slow), minute(60, content=slow)], [])
    later, first = await queries.metrics(store.pool, step_us=HOUR)
    assert (later["window_start"], later["requests"]) == ("2026-11-18T13:00:00Z", 3)
    assert (first["window_start"], first["window_end"]) == ("2026-11-18T12:00:00Z", "2026-11-18T13:00:00Z")
    merged = cell([1_000] * 99 + [5_000_000] * 3)
    for name, q in (("p50_latency_ms", 0.5), ("p95_latency_ms", 0.95), ("p99_latency_ms", 0.99)):
        by_python = quantile(q, 0, merged.latency, merged.latency_min_us, merged.latency_max_us)
        assert by_python and first[name] == pytest.approx(by_python / 1000, rel=1e-12)
    assert first["p95_ttft_ms"] == pytest.approx(0.01, rel=0.011)  # the average of the two would be 2,000
    assert first["avg_latency_ms"] == pytest.approx((99 * 1 + 3 * 5000) / 102)
    assert (first["min_latency_ms"], first["max_latency_ms"]) == (1.0, 5000.0)


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        (("route", "model"), [("/a", "x", 1), ("/a", "y", 2), ("/b", "x", 3)]),
        (("route",), [("/a", None, 3), ("/b", None, 3)]),
        (("model",), [(None, "x", 4), (None, "y", 2)]),
        ((), [(None, None, 6)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("step", [MINUTE, HOUR])
async def test_groups(store: PostgresStore, group_by: tuple[str, ...], expected: list[Any], step: int) -> None:
    rows = [("/a", "x", 1), ("/a", "y", 2), ("/b", "x", 3)]
    await store.write([metric(cell([1000] * n), route=route, model=model) for route, model, n in rows], [])
    found = await queries.metrics(store.pool, step_us=step, group_by=group_by)
    assert [(row["route"], row["model"], row["requests"]) for row in found] == expected


async def test_tenants_are_never_summed_up(store: PostgresStore) -> None:
    await store.write([metric(tenant_id="A"), metric(tenant_id="B")], [])
    assert [row["tenant_id"] for row in await queries.metrics(store.pool, group_by=())] == ["A", "B"]
    assert [row["tenant_id"] for row in await queries.metrics(store.pool, "B", group_by=())] == ["B"]


async def test_a_merged_row_is_final_when_all_its_minutes_are(store: PostgresStore) -> None:
    rows = [minute(number, final=number != 61, revision=2) for number in (0, 1, 60, 61)]
    await store.write(rows, [])
    assert [(row["final"], row["revision"]) for row in await queries.metrics(store.pool, step_us=HOUR)] == [
        (False, 4),
        (True, 4),
    ]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, ["12:03", "12:02", "12:01", "12:00"]),
        ({"limit": 2}, ["12:03", "12:02"]),
        ({"from_us": NOON + MINUTE, "to_us": NOON + 3 * MINUTE}, ["12:02", "12:01"]),
        ({"from_us": NOON + 1}, ["12:03", "12:02", "12:01"]),
        ({"to_us": NOON}, []),
        ({"tenant_id": "acme", "route": "/chat", "model": "gpt-5", "limit": 1}, ["12:03"]),
        ({"tenant_id": "other"}, []),
        ({"route": "/other"}, []),
        ({"model": "' or true --"}, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("group_by", [("route", "model"), ()], ids=["as they are", "summed up"])
async def test_filters(
    store: PostgresStore, question: dict[str, Any], expected: list[str], group_by: tuple[str, ...]
) -> None:
    await store.write([minute(number) for number in range(4)], [])
    assert starts(await queries.metrics(store.pool, **question, group_by=group_by)) == expected


@pytest.mark.parametrize("step", [5 * MINUTE, HOUR, DAY])
@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_without_a_beginning_old_rows_beyond_a_gap_are_found(store: PostgresStore, step: int, limit: int) -> None:
    # Three stretches, each thousands of steps before the next.
    days = [0, 40, 3000]
    await store.write([metric(window_start_us=NOON - day * DAY) for day in days], [])
    assert len(await queries.metrics(store.pool, step_us=step, limit=limit)) == min(limit, 3)


async def test_tenants_and_series_are_each_listed_once(store: PostgresStore) -> None:
    names = [("A", "/a", "x"), ("A", "/a", "y"), ("A", "/b", "x"), ("B", "/a", "x")]
    rows = [
        metric(tenant_id=tenant, route=route, model=model, window_start_us=NOON + number * MINUTE)
        for tenant, route, model in names
        for number in range(3)
    ]
    await store.write(rows, [])
    last = "2026-11-18T12:02:00Z"
    assert await queries.tenants(store.pool) == [{"tenant_id": name, "last_window": last} for name in "AB"]
    found = await queries.series(store.pool, "A")
    assert [tuple(row.values()) for row in found] == [(*name, last) for name in names[:3]]
    assert await queries.series(store.pool, "none") == []


async def test_an_empty_database_answers(store: PostgresStore) -> None:
    assert await queries.metrics(store.pool) == []
    assert await queries.metrics(store.pool, step_us=HOUR) == []
    assert await queries.tenants(store.pool) == []
    assert await queries.ledger(store.pool) == []


async def test_the_ledger_says_whether_it_closes(store: PostgresStore) -> None:
    parts = {"aggregated": 1, "pending": 2, "orphaned": 3, "duplicate": 4, "late": 5, "rejected": 6}
    closed = booked(received=21, **parts)
    open_ = booked(received=22, **parts, tenant_id="")
    await store.write([], [closed, open_, booked(minute_us=NOON + MINUTE)])
    rows = await queries.ledger(store.pool, to_us=NOON + MINUTE)
    assert rows == [
        {"tenant_id": "", "minute": "2026-11-18T12:00:00Z", "received": 22, **parts, "closes": False},
        {"tenant_id": "acme", "minute": "2026-11-18T12:00:00Z", "received": 21, **parts, "closes": True},
    ]
    assert [row["tenant_id"] for row in await queries.ledger(store.pool, tenant_id="")] == [""]
    assert len(await queries.ledger(store.pool, from_us=NOON + MINUTE)) == 1
    assert len(await queries.ledger(store.pool, limit=2)) == 2


async def test_every_question_is_planned_for_its_own_span(store: PostgresStore) -> None:
    """From the sixth time on PostgreSQL would take one plan for all spans: such as reads whole tables."""
    async with reader(store.pool) as connection:
        for _ in range(7):
            await connection.fetch(
                "select * from calls_summary($1, $2, $3)", "A", time_of(NOON), time_of(NOON + MINUTE)
            )
        plans = "select custom_plans, generic_plans from pg_prepared_statements where cardinality(parameter_types) = 3"
        assert tuple(await connection.fetchrow(plans)) == (7, 0)


@pytest.mark.parametrize("first", [None, 0, 3, 50, 99, 100, 130])
@pytest.mark.parametrize("step", [1, 10])
@pytest.mark.parametrize("limit", [1, 3, 40])
async def test_no_more_is_looked_at_than_it_takes(first: int | None, step: int, limit: int) -> None:
    """Windows are minutes 0, 7, 14, …, 98: of a long span with few rows asked for, only the newest are merged."""
    windows = range(0, 100, 7)
    asked = []

    def at(number: int) -> datetime:
        return time_of(NOON // DAY * DAY + number * MINUTE)

    async def rows(begin: datetime) -> list[dict[str, Any]]:
        asked.append(begin)
        steps = {number // step * step for number in windows if at(number) >= begin}
        return [{"window": number} for number in sorted(steps, reverse=True)[:limit]]

    async def ends() -> list[datetime]:
        return [at(windows[0]), at(windows[-1])]

    beginning = None if first is None else at(first)
    found = await looked_back(rows, ends, beginning, limit, timedelta(minutes=step))
    assert found == await rows(beginning or at(0))
    if limit < len(windows) and (first or 0) < 50:
        assert min(asked[:-1]) > at(first or 0)
