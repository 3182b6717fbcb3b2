"""Questions about users and sessions over HTTP: strict, answered from a real Postgres, and continued where they end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from postgres_rows import NOON
from streamlens.keptcall import SLOW, KeptCall
from streamlens.postgres.calls import CallRow
from streamlens.postgres.store import PostgresStore
from streamlens.postgres.visited import VisitRow
from streamlens.visit import DAY_US, MINUTE_US, Visit
from visits_oracle import user_of
from web_server import Site, serving

NOW_US = NOON + DAY_US + 60 * MINUTE_US
ANN, BOB = user_of("acme", "ann"), user_of("acme", "bob")
BAD = [
    ("/v1/retention?days=0", "days"),
    ("/v1/retention?days=32", "days"),
    ("/v1/retention?cohorts=32", "cohorts"),
    ("/v1/retention?by=region", "by"),
    ("/v1/retention?cohort_date=yesterday", "cohort_date"),
    ("/v1/retention?cohort_date=1969-12-31", "cohort_date"),
    ("/v1/retention/d1?cohort_date=9999-12-31", "cohort_date"),
    ("/v1/retention/d1?days=2", "days"),
    ("/v1/funnel", "steps"),
    ("/v1/funnel?steps=", "steps"),
    ("/v1/funnel?steps=a,,b", "steps"),
    ("/v1/funnel?steps=a,b,b", "steps"),
    ("/v1/funnel?steps=a,b,c,d,e,f,g,h,i,j,k", "steps"),
    ("/v1/funnel?steps=a&of=tenants", "of"),
    ("/v1/funnel?steps=a&from=2&to=1", "from"),
    ("/v1/sessions?limit=0", "limit"),
    ("/v1/sessions?cursor=x", "cursor"),
    ("/v1/sessions?user_id=%00", "user_id"),
    ("/v1/sessions/s1?limit=1", "limit"),
]


@pytest.mark.parametrize(("path", "field"), BAD, ids=[path for path, _ in BAD])
async def test_a_bad_parameter_is_named(tmp_path: Path, path: str, field: str) -> None:
    async with serving(tmp_path) as site:  # no pool: nothing of it may reach Postgres
        answer = await site.http.get(path)
        problem = await answer.json()
    assert (answer.status, problem["field"]) == (400, field)


def visited(kind: str, visitor: str, route: str, at_us: int, model: str = "m", **fields: Any) -> VisitRow:
    tenant_id = fields.pop("tenant_id", "acme")
    visit = Visit(at_us, model, {at_us % DAY_US // MINUTE_US}, **fields)
    key = f"{tenant_id} {kind} {visitor} {route} {at_us // DAY_US}".encode()
    return VisitRow(key, tenant_id, kind, visitor, route, visit, (1, 1))


def used(session_id: str, route: str, at_us: int, user: str = ANN, **fields: Any) -> VisitRow:
    sums = {"calls": 2, "errors": 1, "prompt_tokens": 10, "completion_tokens": 5, "priced": 1, "unpriced": 1}
    told = {"last_us": at_us + 1, "user": user, "cost_pico": 3 * 10**9} | sums | fields
    return visited("session", session_id, route, at_us, **told)


def called(request_id: str, tenant_id: str, session_id: str, at_us: int) -> CallRow:
    kept = KeptCall(at_us, SLOW, request_id, session_id=session_id)
    return CallRow(request_id.encode(), tenant_id, at_us, kept, (1, 1))


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    later, next_day = NOON + MINUTE_US, NOON + DAY_US
    await store.write(
        [
            visited("user", ANN, "search", NOON, "a"),
            visited("user", ANN, "chat", later, "b"),
            visited("user", BOB, "chat", NOON, "b"),
            visited("user", BOB, "search", later, "a"),
            visited("user", ANN, "chat", next_day, "b"),
            visited("user", "x", "chat", next_day, "b", tenant_id="globex"),
            used("s1", "search", NOON),
            used("s1", "chat", later, priced=0, cost_pico=0, unpriced=2),
            used("s2", "chat", NOON, BOB),
            used("s3", "chat", next_day),
            used("s1", "chat", next_day, "x", tenant_id="globex"),
            *(called(f"r-{minute}", "acme", "s1", NOON + minute * MINUTE_US) for minute in (1, 0)),
            called("r-2", "acme", "s2", NOON),
            called("r-3", "globex", "s1", NOON),
        ]
    )
    async with serving(tmp_path, pool=store.pool, clock_us=lambda: NOW_US) as site:
        yield site


async def get(site: Site, path: str) -> Any:
    answer = await site.http.get(path)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def test_who_came_back(site: Site) -> None:
    body = await get(site, "/v1/retention?cohort_date=2026-11-18&days=2&by=route&tenant_id=acme")
    (chat, search) = body["cohorts"]
    assert (chat["by"], chat["value"], chat["size"], search["value"]) == ("route", "chat", 1, "search")
    assert search["days"] == [
        {"day": 1, "date": "2026-11-19", "returned": 1, "rate": 1.0, "complete": False},
        {"day": 2, "date": "2026-11-20", "returned": 0, "rate": 0.0, "complete": False},
    ]
    newest, before = (await get(site, "/v1/retention?days=1&cohorts=2"))["cohorts"]
    assert [(each["cohort_date"], each["size"], each["by"]) for each in (newest, before)] == [
        ("2026-11-19", 1, None),
        ("2026-11-18", 2, None),
    ]
    assert (await get(site, "/v1/retention?tenant_id=nobody"))["cohorts"] == []
    old = (await get(site, "/v1/retention?cohort_date=2026-11-16&days=3"))["cohorts"][0]["days"]
    assert [(day["rate"], day["complete"]) for day in old] == [(None, True), (None, True), (None, False)]


async def test_who_came_back_on_the_next_day(site: Site) -> None:
    whole = {"cohort_date": "2026-11-18", "size": 2, "returned": 1, "rate": 0.5, "complete": False}
    assert await get(site, "/v1/retention/d1") == whole | {"by": None}
    assert await get(site, "/v1/retention/d1?by=model") == whole | {
        "by": [
            {"value": "a", "size": 1, "returned": 1, "rate": 1.0},
            {"value": "b", "size": 1, "returned": 0, "rate": 0.0},
        ]
    }


async def test_how_far_they_got(site: Site) -> None:
    body = await get(site, "/v1/funnel?steps=search,chat&tenant_id=acme&to=2026-11-18T12:02:00Z")
    assert body == {
        "of": "users",
        "steps": [
            {"route": "search", "reached": 2, "share_of_first": 1.0, "share_of_previous": 1.0},
            {"route": "chat", "reached": 1, "share_of_first": 0.5, "share_of_previous": 0.5},
        ],
    }
    body = await get(site, "/v1/funnel?steps=buy,chat&of=sessions")
    assert [tuple(step.values())[1:] for step in body["steps"]] == [(0, None, None), (0, None, None)]


async def test_sessions_are_whole_and_continued_where_a_page_ends(site: Site) -> None:
    body = await get(site, "/v1/sessions?tenant_id=acme")
    assert (body["sessions"][0]["session_id"], body["count"], body["next"]) == ("s3", 3, None)
    whole = await get(site, "/v1/sessions/s1?tenant_id=acme")
    assert [each["request_id"] for each in whole["calls"]] == ["r-0", "r-1"]
    (s1,) = whole["sessions"]
    assert s1 in body["sessions"]
    assert s1 == {
        "tenant_id": "acme",
        "session_id": "s1",
        "user": ANN,
        "started_at": "2026-11-18T12:00:00Z",
        "last_at": "2026-11-18T12:01:00.000001Z",
        "calls": 4,
        "errors": 2,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "estimated_cost_usd": 0.003,
        "unpriced": 3,
        "routes": ["search", "chat"],
    }
    found, path = [], "/v1/sessions?limit=1"
    while path and len(found) < 9:
        page = await get(site, path)
        found += [(each["tenant_id"], each["session_id"]) for each in page["sessions"]]
        path = page["next"] and f"/v1/sessions?limit=1&cursor={page['next']}"
    assert sorted(found) == [("acme", "s1"), ("acme", "s2"), ("acme", "s3"), ("globex", "s1")]


OF_USER = [
    ("user_id=ann&tenant_id=acme", {"s1", "s3"}),
    (f"user_id={ANN}", {"s1", "s3"}),
    (f"user_id={BOB}&tenant_id=acme", {"s2"}),
    ("user_id=ann", set()),
    ("user_id=ann&tenant_id=globex", set()),
    (f"user_id={ANN}&tenant_id=globex", set()),
]


@pytest.mark.parametrize(("query", "expected"), OF_USER)
async def test_a_user_is_asked_for_as_sent_or_as_shown(site: Site, query: str, expected: set[str]) -> None:
    assert {each["session_id"] for each in (await get(site, f"/v1/sessions?{query}"))["sessions"]} == expected


async def test_a_session_that_is_not_there(site: Site) -> None:
    assert [each["tenant_id"] for each in (await get(site, "/v1/sessions/s1"))["sessions"]] == ["acme", "globex"]
    for path in ("/v1/sessions/s9", "/v1/sessions/s3?tenant_id=globex"):
        assert (await site.http.get(path)).status == 404


async def test_sessions_come_as_a_table_too(site: Site) -> None:
    lines = (await (await site.http.get("/v1/sessions?tenant_id=acme&format=csv")).text()).splitlines()
    assert (lines[0].split(",")[:3], len(lines)) == (["tenant_id", "session_id", "user"], 4)
