"""`GET /v1/metrics`, `/v1/tenants`, `/v1/series`, `/v1/ledger`: strict questions, and answers from a real Postgres."""

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from postgres_rows import MINUTE, NOON, booked, cell, metric
from streamlens.postgres.store import PostgresStore
from web_server import Site, serving

FAR = "x" * 257
DEEP = urlsafe_b64encode(b'[0,"a",' + b"[" * 5_000).decode()
BAD = [
    ("/v1/metrics?step=2m", "step"),
    ("/v1/metrics?step=1M", "step"),
    ("/v1/metrics?step=all", "from"),
    ("/v1/metrics?group_by=tenant", "group_by"),
    ("/v1/metrics?group_by=route,route", "group_by"),
    ("/v1/metrics?group_by=route,none", "group_by"),
    ("/v1/metrics?limit=0", "limit"),
    ("/v1/metrics?limit=10001", "limit"),
    ("/v1/metrics?limit=-1", "limit"),
    ("/v1/metrics?limit=1.5", "limit"),
    ("/v1/metrics?limit=1e3", "limit"),
    ("/v1/metrics?limit=%D9%A3", "limit"),
    (f"/v1/metrics?limit={'9' * 5000}", "limit"),
    ("/v1/metrics?tenant=acme", "tenant"),
    ("/v1/metrics?limit=1&limit=2", "limit"),
    ("/v1/metrics?from=2026-01-01T00:00:00", "from"),
    ("/v1/metrics?to=2026-01-01", "to"),
    ("/v1/metrics?to=yesterday", "to"),
    ("/v1/metrics?to=1.5", "to"),
    ("/v1/metrics?to=-1", "to"),
    (f"/v1/metrics?to={'9' * 5000}", "to"),
    ("/v1/metrics?to=253402300800000", "to"),
    ("/v1/metrics?from=0001-01-01T00:00:00Z", "from"),
    ("/v1/metrics?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
    ("/v1/metrics?from=2&to=1", "from"),
    (f"/v1/metrics?tenant_id={FAR}", "tenant_id"),
    ("/v1/metrics?route=%00", "route"),
    ("/v1/ledger?from=soon", "from"),
    ("/v1/ledger?cursor=x", "cursor"),
    ("/v1/ledger?cursor=WzAsIlx1MDAwMCJd", "cursor"),
    (f"/v1/ledger?cursor={DEEP}", "cursor"),
    ("/v1/ledger?step=1m", "step"),
    ("/v1/ledger?tenant_id=a%00b", "tenant_id"),
    (f"/v1/series?tenant_id={FAR}", "tenant_id"),
    ("/v1/series?limit=1", "limit"),
    ("/v1/tenants?tenant_id=acme", "tenant_id"),
]


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    await store.write(
        [
            metric(cell([1000, 3000], [500], errors=1, cost_pico=2_500_000_000, priced=2), (1, 1)),
            metric(cell([9000], unpriced=1), (1, 1), window_start_us=NOON + MINUTE, route="/search"),
            metric(cell([5000]), (1, 1), tenant_id="böse & co", route="/ü?"),
        ],
        [
            booked(received=3, aggregated=2, pending=1),
            booked(tenant_id="", received=2, orphaned=1),
        ],
    )
    async with serving(tmp_path, pool=store.pool) as site:
        yield site


@pytest.mark.parametrize(("path", "field"), BAD, ids=[path[:60] for path, _ in BAD])
async def test_a_bad_parameter_is_named(tmp_path: Path, path: str, field: str) -> None:
    async with serving(tmp_path) as site:  # no pool: nothing of it may reach Postgres
        answer = await site.http.get(path)
        problem = await answer.json()
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert (problem["status"], problem["field"]) == (400, field)


async def routes(site: Site, query: str) -> list[str]:
    answer = await site.http.get(f"/v1/metrics{query}")
    body = await answer.json()
    assert answer.status == 200, body
    assert body["count"] == len(body["metrics"])
    return [f"{row['window_start'][11:16]} {row['tenant_id']} {row['route']}" for row in body["metrics"]]


ALL = ["12:01 acme /search", "12:00 acme /chat", "12:00 böse & co /ü?"]
QUERIES = [
    ("", ALL),
    ("?tenant_id=&route=&model=&from=&to=&step=&group_by=&limit=", ALL),
    ("?limit=1", ALL[:1]),
    ("?tenant_id=acme", ALL[:2]),
    (f"?tenant_id={quote('böse & co')}&route={quote('/ü?')}", ALL[2:]),
    ("?tenant_id=nobody", []),
    ("?tenant_id=%FF", []),
    ("?from=2026-11-18T12:01:00Z", ALL[:1]),
    ("?to=2026-11-18T12:01:00Z", ALL[1:]),
    ("?from=2026-11-18T13:01:00%2B01:00", ALL[:1]),
    ("?from=2026-11-18T13:01:00+01:00", ALL[:1]),
    (f"?from={NOON // 1000 + 60_000}", ALL[:1]),
    (f"?from={NOON // 1000}&to={NOON // 1000}", []),
    ("?step=1h&group_by=none", ["12:00 acme None", "12:00 böse & co None"]),
    ("?step=1d&group_by=route&tenant_id=acme", ["00:00 acme /chat", "00:00 acme /search"]),
    ("?step=5m&group_by=model,route&tenant_id=acme", ["12:00 acme /chat", "12:00 acme /search"]),
    ("?step=1h&from=9999-12-31T23:30:00Z", []),
    ("?step=1h&from=9999-12-31T23:30:00Z&to=9999-12-31T23:59:00Z", []),
]


async def test_the_whole_time_is_one_row_of_each_group(site: Site) -> None:
    first, last = "2026-11-17T23:59:00Z", "2026-11-18T12:30:00Z"
    body = await (await site.http.get(f"/v1/metrics?step=all&group_by=none&from={first}&to={last}")).json()
    assert [(row["tenant_id"], row["requests"]) for row in body["metrics"]] == [("acme", 3), ("böse & co", 1)]
    assert {(row["window_start"], row["window_end"]) for row in body["metrics"]} == {(first, last)}
    minute = await (await site.http.get("/v1/metrics?tenant_id=b%C3%B6se+%26+co")).json()
    assert body["metrics"][1]["p95_latency_ms"] == minute["metrics"][0]["p95_latency_ms"]


@pytest.mark.parametrize(("query", "rows"), QUERIES)
async def test_rows_are_chosen_as_asked(site: Site, query: str, rows: list[str]) -> None:
    assert await routes(site, query) == rows


async def test_a_row_has_the_shape_of_the_contract(site: Site) -> None:
    body = await (await site.http.get("/v1/metrics?route=/chat")).json()
    (row,) = body["metrics"]
    assert {name: row[name] for name in ("tenant_id", "route", "model", "window_start", "window_end", "final")} == {
        "tenant_id": "acme",
        "route": "/chat",
        "model": "gpt-5",
        "window_start": "2026-11-18T12:00:00Z",
        "window_end": "2026-11-18T12:01:00Z",
        "final": False,
    }
    assert (row["requests"], row["errors"], row["error_rate"], row["unpriced"]) == (2, 1, 0.5, 0)
    assert (row["min_latency_ms"], row["avg_latency_ms"], row["max_latency_ms"]) == (1.0, 2.0, 3.0)
    assert row["p95_latency_ms"] == pytest.approx(3.0, rel=0.011)
    assert row["estimated_cost_usd"] == 0.0025


async def test_what_has_no_price_costs_null(site: Site) -> None:
    body = await (await site.http.get("/v1/metrics?route=/search")).json()
    assert body["metrics"][0]["estimated_cost_usd"] is None


async def test_what_exists(site: Site) -> None:
    tenants = (await (await site.http.get("/v1/tenants")).json())["tenants"]
    assert [row["tenant_id"] for row in tenants] == ["acme", "böse & co"]
    one = (await (await site.http.get("/v1/series?tenant_id=acme")).json())["series"]
    assert [(row["tenant_id"], row["route"], row["model"]) for row in one] == [
        ("acme", "/chat", "gpt-5"),
        ("acme", "/search", "gpt-5"),
    ]
    every = (await (await site.http.get("/v1/series")).json())["series"]
    assert [row["route"] for row in every] == ["/chat", "/search", "/ü?"]


async def test_the_ledger_says_what_closes(site: Site) -> None:
    body = await (await site.http.get("/v1/ledger")).json()
    assert [(row["tenant_id"], row["received"], row["closes"]) for row in body["ledger"]] == [
        ("", 2, False),
        ("acme", 3, True),
    ]
    one = await (await site.http.get("/v1/ledger?tenant_id=acme&limit=1")).json()
    assert [row["tenant_id"] for row in one["ledger"]] == ["acme"]


async def test_the_ledger_is_continued_where_the_answer_before_has_ended(site: Site, store: PostgresStore) -> None:
    later = [booked(tenant_id=tenant, minute_us=NOON + MINUTE, received=1) for tenant in ("acme", "zoo")]
    await store.write([], later)
    every, seen, query = (await (await site.http.get("/v1/ledger")).json())["ledger"], [], "?limit=3"
    assert [(row["minute"][14:16], row["tenant_id"]) for row in every] == [
        *(("01", "acme"), ("01", "zoo")),
        *(("00", ""), ("00", "acme")),
    ]
    for count in (3, 1):
        page = await (await site.http.get(f"/v1/ledger{query}")).json()
        assert len(page["ledger"]) == count
        seen += page["ledger"]
        query = f"?limit=3&cursor={page['next']}"
    assert (seen, page["next"]) == (every, None)


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/tenants", "/v1/series", "/v1/ledger"])
async def test_without_postgres_readers_are_told_to_come_again(tmp_path: Path, path: str) -> None:
    away = await PostgresStore.open("postgresql://nobody@127.0.0.1:1/nothing")
    async with serving(tmp_path, pool=away.pool) as site:
        answer = await site.http.get(path)
        problem = await answer.json()
    await away.close()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert "127.0.0.1" not in problem["detail"]


async def test_a_database_that_is_not_migrated_yet_is_not_ready(tmp_path: Path, empty_dsn: str) -> None:
    bare = await PostgresStore.open(empty_dsn)
    async with serving(tmp_path, pool=bare.pool) as site:
        answer = await site.http.get("/v1/metrics")
        assert (answer.status, "llm_metrics" in await answer.text()) == (503, False)
    await bare.close()
