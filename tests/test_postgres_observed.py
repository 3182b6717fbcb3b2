"""Rows of what is no call in a real Postgres: exact, guarded by version, answered as asked, deleted by age."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Context
from types import SimpleNamespace
from typing import Any

import asyncpg
import orjson
import pytest

from postgres_rows import MINUTE, NOON, cell, metric
from streamlens.keptcall import KeptCall
from streamlens.postgres import observed_queries, queries, retention
from streamlens.postgres.calls import CallRow
from streamlens.postgres.observed import EvaluationRow, KeptRow, TallyRow
from streamlens.postgres.retention import Retention
from streamlens.postgres.rows import FacetRow, time_of
from streamlens.postgres.store import PostgresStore
from streamlens.postgres.visited import VisitRow
from streamlens.scores import Scores
from streamlens.settings import Settings
from streamlens.tally import Tally
from streamlens.visit import Visit
from tables.caps import Caps

HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
SECRETS = "".join(chr(0x10000 + 97 * n) for n in range(256))
"""A name as long as names may be, which does not compress."""
VERSION = (1, 1)
AGES = [0, 6.9, 7.1, 399, 401]
"""Of visits, in days."""


def evaluated(name: str = "truth", at_us: int = NOON, **fields: Any) -> EvaluationRow:
    scores = Scores()
    for score, label in fields.pop("given", [(0.5, None)]):
        scores.add(score, label)
    row = {"tenant_id": "acme", "route": "/chat", "model": "gpt-5", "revision": 1, "final": True, "version": VERSION}
    row |= fields
    key = f"{row['tenant_id']} {row['route']} {row['model']} {name} {at_us}".encode()
    return EvaluationRow(key=key, name=name, window_start_us=at_us, window_us=MINUTE, scores=scores, **row)


def tallied(kind: str, name: str, detail: str, tally: Tally, at_us: int = NOON, version: Any = VERSION) -> TallyRow:
    key = f"{kind} {name} {detail} {at_us}".encode()
    return TallyRow(key, "acme", kind, name, detail, at_us, MINUTE, tally, version)


def kept(number: int, at_us: int = NOON, tenant_id: str = "acme", **said: Any) -> KeptRow:
    content = orjson.dumps({"level": "INFO", "service": "api", "message": f"line {number}"} | said)
    return KeptRow(f"{number}".encode(), tenant_id, "log", f"id{number}", at_us, content, VERSION)


async def rows(dsn: str, table: str, order: str = "1") -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    found: list[asyncpg.Record] = await connection.fetch(f"select * from {table} order by {order}")
    await connection.close()
    return found


async def ask(store: PostgresStore, step_us: int = MINUTE, limit: int = 60, **chosen: Any) -> list[dict[str, Any]]:
    names = ("tenant_id", "route", "model", "name", "from_us", "to_us")
    return await observed_queries.evaluations(store.pool, **dict.fromkeys(names) | chosen, step_us=step_us, limit=limit)


async def test_only_a_higher_version_replaces_a_row_of_any_table(store: PostgresStore, dsn: str) -> None:
    for version, count in (((1, 2), 2), ((1, 1), 1), ((2, 1), 3), ((1, 9), 9)):
        tally, given = Tally(count=count), [(0.5, None)] * count
        facet = FacetRow("acme", "region", "eu", NOON, MINUTE, cell([1000] * count), count, False, version)
        await store.write(
            [tallied("log", "a", "b", tally, version=version), evaluated(given=given, version=version), facet]
        )
    assert [row["count"] for row in await rows(dsn, "llm_tallies")] == [3]
    assert [row["evaluations"] for row in await rows(dsn, "llm_evaluations")] == [3]
    assert [row["requests"] for row in await rows(dsn, "llm_facets")] == [3]


async def test_the_longest_names_and_the_largest_sums_are_exact(store: PostgresStore, dsn: str) -> None:
    names = {"tenant_id": SECRETS, "route": SECRETS, "model": SECRETS}
    huge = Tally(count=3, sum=-(10**33) - 1, low=-(10**21), high=7)
    facet = FacetRow(SECRETS, "prompt_version", SECRETS, NOON, MINUTE, cell([1000]), 1, False, VERSION)
    row = evaluated(SECRETS, given=[(1e9, SECRETS), (-1e-6, None)], **names)
    await store.write([row, tallied("metric", SECRETS, SECRETS * 5, huge), facet])
    (found,) = await rows(dsn, "llm_tallies")
    whole = [int(found[name].scaleb(6, Context(prec=50))) for name in ("sum", "min", "max")]
    assert whole == [huge.sum, huge.low, huge.high]
    (found,) = await rows(dsn, "llm_evaluations")
    assert (found["score_sum"] * 1_000_000, found["route"]) == (10**15 - 1, SECRETS)
    assert len(await rows(dsn, "llm_facets")) == 1


async def test_evaluations_merge_over_time_as_their_scores_would(store: PostgresStore) -> None:
    first = evaluated(given=[(-1.0, None)] * 3 + [(0.0, "bad")])
    second = evaluated(at_us=NOON + MINUTE, given=[(2.0, "good")] * 6 + [(None, "bad")], final=False)
    await store.write([first, second])
    (found,) = await ask(store, step_us=HOUR)
    exact = {"p5_score": -1, "p50_score": 2, "p95_score": 2, "avg_score": 0.9}
    assert {name: found.pop(name) for name in exact} == pytest.approx(exact, rel=0.011)
    assert found == {
        "tenant_id": "acme",
        "route": "/chat",
        "model": "gpt-5",
        "name": "truth",
        "window_start": "2026-11-18T12:00:00Z",
        "window_end": "2026-11-18T13:00:00Z",
        "evaluations": 11,
        "scored": 10,
        "min_score": -1.0,
        "max_score": 2.0,
        "labels": {"bad": 2, "good": 6},
        "revision": 2,
        "final": False,
    }
    assert [row["evaluations"] for row in await ask(store)] == [7, 4]


async def test_evaluations_without_a_score_have_none(store: PostgresStore) -> None:
    await store.write([evaluated(given=[(None, "good")])])
    (found,) = await ask(store)
    scores = ("avg_score", "min_score", "max_score", "p5_score", "p50_score", "p95_score")
    assert ([found[name] for name in scores], found["labels"]) == ([None] * 6, {"good": 1})


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({}, ["tone", "truth", "truth"]),
        ({"name": "tone"}, ["tone"]),
        ({"route": "/search"}, ["truth"]),
        ({"tenant_id": "nobody"}, []),
        ({"from_us": NOON + MINUTE}, ["tone"]),
        ({"to_us": NOON + MINUTE}, ["truth", "truth"]),
        ({"limit": 1}, ["tone"]),
    ],
    ids=str,
)
async def test_evaluations_are_chosen_as_asked(store: PostgresStore, chosen: dict[str, Any], names: list[str]) -> None:
    await store.write([evaluated(), evaluated(route="/search"), evaluated("tone", at_us=NOON + MINUTE)])
    assert [row["name"] for row in await ask(store, **chosen)] == names


async def test_tallies_are_summed_by_step_and_only_metrics_have_values(store: PostgresStore) -> None:
    half, two = Tally(2, 1_000_000, 250_000, 750_000), Tally(1, 2_000_000, 2_000_000, 2_000_000)
    await store.write(
        [
            tallied("metric", "cpu", "host=a", half),
            tallied("metric", "cpu", "host=a", two, at_us=NOON + MINUTE),
            tallied("log", "api", "ERROR", Tally(7)),
            tallied("warning", "cardinality", "model", Tally(5)),
        ]
    )
    kinds = ("log", "metric", "warning")
    every = await observed_queries.tallies(store.pool, kinds, "acme", None, None, None, HOUR, 60)
    columns = ("kind", "name", "detail", "count", "sum", "min", "max")
    assert [[row[column] for column in columns] for row in every] == [
        ["log", "api", "ERROR", 7, None, None, None],
        ["metric", "cpu", "host=a", 3, 3.0, 0.25, 2.0],
        ["warning", "cardinality", "model", 5, None, None, None],
    ]
    some = await observed_queries.tallies(store.pool, ("metric",), None, "cpu", NOON, NOON + HOUR, MINUTE, 1)
    assert [(row["window_start"], row["count"]) for row in some] == [("2026-11-18T12:01:00Z", 1)]


async def test_recent_lines_of_logs(store: PostgresStore) -> None:
    await store.write([kept(1), kept(2, NOON + 1, level="ERROR"), kept(3, NOON + 2, service="web", tenant_id="other")])
    every = ("INFO", "ERROR")

    async def ids(*asked: Any) -> list[str]:
        return [row["id"] for row in (await observed_queries.recent_logs(store.pool, *asked))[0]]

    assert await ids(None, every, None, 10) == ["id3", "id2", "id1"]
    assert await ids("acme", every, None, 1) == ["id2"]
    assert await ids(None, ("ERROR",), None, 10) == ["id2"]
    assert await ids(None, every, "web", 10) == ["id3"]
    ((found,), _) = await observed_queries.recent_logs(store.pool, "other", every, None, 10)
    assert found == {
        "id": "id3",
        "tenant_id": "other",
        "timestamp": "2026-11-18T12:00:00.000002Z",
        "level": "INFO",
        "service": "web",
        "message": "line 3",
    }


@pytest.mark.parametrize("step", [MINUTE, HOUR])
async def test_facets_have_the_rows_of_calls_by_value(store: PostgresStore, step: int) -> None:
    def facet(value: str, latencies: list[int], name: str = "region") -> FacetRow:
        return FacetRow("acme", name, value, NOON, MINUTE, cell(latencies), 1, True, VERSION)

    await store.write([facet("eu", [1000]), facet("us", [2000, 4000]), facet("eu", [9000], name="sender"), metric()])
    found = await queries.metrics(store.pool, facet="region", step_us=step)
    assert [(row["facet"], row["value"], row["requests"], row["max_latency_ms"]) for row in found] == [
        ("region", "eu", 1, 1.0),
        ("region", "us", 2, 4.0),
    ]
    (whole,) = await queries.metrics(store.pool, step_us=step)
    assert set(whole) - {"route", "model"} == set(found[0]) - {"facet", "value"}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "_PAUSE_S", 0)
    yield


@pytest.mark.parametrize("days", [{}, {"retention_days": 0}, {"recent_days": 0}], ids=str)
async def test_old_rows_go_and_young_ones_stay(
    store: PostgresStore, dsn: str, small_batches: None, days: dict[str, float]
) -> None:
    ages = [0, 6.9 * DAY, 7.1 * DAY, 8 * DAY]
    for number, age in enumerate(ages):
        at = NOON - round(age)
        facet = FacetRow("acme", "region", "eu", at, MINUTE, cell([1]), 1, True, VERSION)
        await store.write(
            [evaluated(at_us=at), tallied("log", "a", "b", Tally(1), at), facet, metric(window_start_us=at)]
        )
        await store.write([kept(10 * number + n, at) for n in range(2)])
        await store.write([CallRow(b"n%d" % number, "acme", at, KeptCall(at, number % 2), VERSION)])
    tables = {"llm_metrics": 4, "llm_facets": 4, "llm_evaluations": 4, "llm_tallies": 4, "app_logs": 8, "llm_calls": 4}
    database: Any = SimpleNamespace(pool=store.pool, trouble="")
    sweep = Retention(database, Settings(**days), lambda: NOON).sweep
    # Those of calls and facets wait for their hour: see test_postgres_rollup.py.
    old = {"llm_evaluations": 2, "llm_tallies": 2} if days.get("retention_days", 7) else {}
    old |= {"app_logs": 6, "llm_calls": 3} if days.get("recent_days", 1) else {}
    assert await sweep() == sum(old.values())
    assert {table: len(await rows(dsn, table)) for table in tables} == {t: n - old.get(t, 0) for t, n in tables.items()}
    assert await sweep() == 0


async def test_a_series_that_has_room_fits_into_the_index(store: PostgresStore, dsn: str) -> None:
    route, model, _ = Caps({}).series(1, SECRETS, SECRETS, SECRETS[:130])
    assert len(f"{SECRETS}{route}{model}".encode()) > 2_500
    await store.write([metric(tenant_id=SECRETS, route=route, model=model)])
    assert len(await rows(dsn, "llm_metrics")) == 1


def visited(kind: str, age: float) -> VisitRow:
    at_us = NOON - round(age)
    return VisitRow(f"{kind} {age}".encode(), "acme", kind, "v", "chat", Visit(at_us, "m", {0}), VERSION)


@pytest.mark.parametrize(
    ("days", "left"),
    [
        ({}, {"session": [0, 6.9], "user": [0, 6.9, 7.1, 399]}),
        ({"user_retention_days": 7, "retention_days": 0}, {"session": AGES, "user": [0, 6.9]}),
    ],
    ids=["by default", "as set"],
)
async def test_users_stay_longer_than_sessions(
    store: PostgresStore, dsn: str, small_batches: None, days: dict[str, float], left: dict[str, list[float]]
) -> None:
    await store.write([visited(kind, age * DAY) for kind in ("session", "user") for age in AGES])
    await Retention(SimpleNamespace(pool=store.pool, trouble=""), Settings(**days), lambda: NOON).sweep()  # type: ignore[arg-type]
    found: dict[str, list[float]] = {}
    for row in await rows(dsn, "llm_visits", "first_at desc"):
        found.setdefault(row["kind"], []).append(round((time_of(NOON) - row["first_at"]) / timedelta(days=1), 1))
    assert found == left
