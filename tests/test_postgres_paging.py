"""Lists that go on: page by page they are the whole list, each row once, whatever is revised in between."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from postgres_rows import MINUTE, NOON, cell, metric
from streamlens.facets import version_of
from streamlens.postgres import analytics, observed_queries, queries
from streamlens.postgres.observed import EvaluationRow, KeptRow, TallyRow
from streamlens.postgres.queries import SERIES, columns_of
from streamlens.postgres.rollup import Rollup
from streamlens.postgres.rows import FacetRow, SettledRow
from streamlens.postgres.store import PostgresStore
from streamlens.postgres.windows import Place
from streamlens.scores import Scores
from streamlens.tally import Tally
from web.query import WHOLE_US

HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
FIRST = NOON - 2 * HOUR
TIMES = [FIRST - 50 * DAY, *(FIRST + minute * MINUTE for minute in (0, 1, 3, 59, 60, 61, 64, 130, 185))]
"""With a gap that is many stretches of steps long."""
TENANTS, VERSIONS = ("A", "B", "ü"), (None, "1", "2")
LEVELS = ("INFO", "ERROR")


def rows(random: Random, version: int, count: int = 60) -> list[Any]:
    """Some of every table; a later version revises."""
    made: list[Any] = []
    for _ in range(count):
        at, tenant, stamp = random.choice(TIMES), random.choice(TENANTS), (1, version)
        route, model, name = random.choice(("/a", "/b", "")), random.choice("xy"), random.choice(("one", "two"))
        content, scores, told = cell([random.randrange(1, 10**6)]), Scores(), random.choice(VERSIONS)
        scores.add(random.random(), None)
        made.append(metric(content, stamp, tenant_id=tenant, route=route, model=model, window_start_us=at))
        made.append(FacetRow(tenant, "region", name, at, MINUTE, content, version, False, stamp))
        if told:
            value = version_of(model, told)
            made.append(FacetRow(tenant, "model_version", value, at, MINUTE, content, version, False, stamp))
        key = f"{at} {tenant} {route} {model} {name}".encode()
        made.append(EvaluationRow(key, tenant, route, model, name, at, MINUTE, scores, version, False, stamp))
        kind = random.choice(("log", "metric", "warning"))
        made.append(TallyRow(key + kind.encode(), tenant, kind, name, route, at, MINUTE, Tally(version), stamp))
        line = f'{{"level":"{random.choice(LEVELS)}","service":"api","message":"{version}"}}'.encode()
        made.append(KeptRow(key, tenant, "log", name, at, line, stamp))
    return made


@pytest.fixture(params=["minutes", "hours"])
async def filled(request: pytest.FixtureRequest, store: PostgresStore) -> AsyncIterator[PostgresStore]:
    await store.write(rows(Random(1), 1))
    if request.param == "hours":
        await store.write([SettledRow(0, FIRST + 2 * HOUR, (1, 1))])
        rollup = Rollup(SimpleNamespace(pool=store.pool, trouble=""), 1)  # type: ignore[arg-type]
        while await rollup.step():
            pass
    yield store


class Listed(NamedTuple):
    """How a list is asked for, with `limit` and `after`, and where the row of an answer is."""

    ask: Callable[..., Any]
    place: Callable[[dict[str, Any]], Any]


SPANS = [
    {},
    {"from_us": FIRST + MINUTE + 1},
    {"from_us": FIRST - 60 * DAY, "to_us": FIRST + 62 * MINUTE},
    {"to_us": FIRST + 64 * MINUTE},
]


def listed(step_us: int, groups: tuple[str, ...], facet: str | None, **asked: Any) -> Listed:
    ask = partial(queries.metrics, step_us=step_us, group_by=groups, facet=facet, **asked)
    return Listed(ask, lambda row: Place.of(row, step_us, columns_of(groups, facet)))


def all_of(tenant: str | None) -> list[Listed]:
    of = {"tenant_id": tenant}
    none = of | {"from_us": None, "to_us": None}
    found = [
        listed(step, groups, facet, **of, **span)
        for groups, facet in ((SERIES, None), (("route",), None), (("model",), None), ((), None), (SERIES, "region"))
        for step in (MINUTE, 5 * MINUTE, HOUR, DAY, WHOLE_US)
        for span in SPANS
        if step != WHOLE_US or "from_us" in span
    ]
    for span in SPANS:
        by, minutes = observed_queries.EVALUATED_BY, partial(analytics.minutes, **of, **span)
        found.append(Listed(minutes, lambda row: Place.of(row, MINUTE, analytics.MINUTES_BY, "minute")))
        for step in (MINUTE, HOUR, DAY):
            asked = none | span | {"name": None, "step_us": step}
            ask = partial(observed_queries.evaluations, route=None, model=None, **asked)
            found.append(Listed(ask, lambda row, s=step, by=by: Place.of(row, s, by)))  # type: ignore[misc]
            ask = partial(observed_queries.tallies, kinds=("log", "metric", "warning"), **asked)
            found.append(Listed(ask, lambda row, s=step: Place.of(row, s, observed_queries.TALLIED_BY)))  # type: ignore[misc]
    return found


async def walked(pool: Any, each: Listed, limit: int, between: Callable[[], Any] | None = None) -> list[dict[str, Any]]:
    """All pages; `between` is awaited after each."""
    seen: list[dict[str, Any]] = []
    after = None
    while True:
        page = await each.ask(pool, limit=limit, after=after)
        seen += page
        assert len(seen) < 1_000, "it never ends"
        if len(page) < limit:
            return seen
        after = each.place(page[-1])
        if between:
            await between()


@pytest.mark.parametrize("tenant", [None, "ü"])
async def test_the_pages_are_the_list(filled: PostgresStore, tenant: str | None) -> None:
    for each in all_of(tenant):
        whole = await each.ask(filled.pool, limit=10_000)
        assert whole, each
        for limit in (1, 2, 7) if len(whole) < 25 else (7,):
            assert await walked(filled.pool, each, limit) == whole, (limit, each)


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_the_pages_of_the_minutes_are_the_list_however_short(filled: PostgresStore, limit: int) -> None:
    for each in [listed(MINUTE, SERIES, None), listed(HOUR, SERIES, None), *all_of(None)[-7:]]:
        assert await walked(filled.pool, each, limit) == await each.ask(filled.pool, limit=10_000), each


async def test_what_is_revised_between_pages_is_there_once(store: PostgresStore) -> None:
    await store.write(rows(Random(1), 1))
    versions = iter(range(2, 10_000))
    for each in (listed(MINUTE, SERIES, None), listed(HOUR, ("route",), None), *all_of(None)[-3:]):
        before = [each.place(row) for row in await each.ask(store.pool, limit=10_000)]
        seen = await walked(store.pool, each, 7, lambda: store.write(rows(Random(1), next(versions))))
        assert [each.place(row) for row in seen] == before


@pytest.mark.parametrize("tenant", [None, "ü"])
@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_lines_go_on_where_ids_and_times_are_the_same(
    store: PostgresStore, limit: int, tenant: str | None
) -> None:
    await store.write(rows(Random(2), 1))
    ask = partial(observed_queries.recent_logs, store.pool, tenant, LEVELS, None)
    whole, end = await ask(1_000)
    assert (len(whole) > 10, end) == (True, None)
    seen, after = await ask(limit)
    while after is not None:
        page, after = await ask(limit, after)
        seen += page
    assert seen == whole
