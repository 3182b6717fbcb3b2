"""Lists that go on, over HTTP: `next` and `Link` lead through all of a list, and lead nowhere else."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from guarded_site import OTHER, TENANT, Guarded, guarded
from postgres_rows import MINUTE, NOON, cell, metric
from streamlens.postgres.observed import EvaluationRow, KeptRow, TallyRow
from streamlens.postgres.observed_queries import LinePlace
from streamlens.postgres.rows import FacetRow
from streamlens.postgres.store import PostgresStore
from streamlens.postgres.windows import Place
from streamlens.scores import Scores
from streamlens.tally import Tally
from web.cursor import token
from web_server import Site, serving

__all__ = ["guarded"]

LONG = "ü" * 256
LOGS = "/api/v1/analytics/logs/recent"
SPAN = f"from={NOON // 1000}&to={NOON // 1000 + 240_000}"
LISTS = [
    ("/v1/metrics", "metrics"),
    (f"/v1/metrics?{SPAN}", "metrics"),
    ("/v1/metrics?step=5m&group_by=model", "metrics"),
    ("/v1/metrics?step=1h&group_by=none", "metrics"),
    (f"/v1/metrics?step=all&{SPAN}", "metrics"),
    ("/v1/metrics?group_by=region", "metrics"),
    ("/v1/metrics?group_by=region&step=1d", "metrics"),
    ("/v1/metrics/minute", "metrics"),
    ("/v1/evaluations", "evaluations"),
    ("/v1/evaluations?step=1h", "evaluations"),
    ("/v1/tallies", "tallies"),
    ("/v1/tallies?step=5m", "tallies"),
    (LOGS, "logs"),
]
SERIES_PLACE = token(Place(MINUTE, NOON, {"tenant_id": "a", "route": "b", "model": "c"}))
LAST_PLACE = token(Place(MINUTE, 253402300799999999, {"tenant_id": "a", "route": "b", "model": "c"}))
OF_OTHERS = [
    ("/v1/metrics?step=5m", SERIES_PLACE),
    ("/v1/metrics?group_by=model", SERIES_PLACE),
    ("/v1/metrics/minute", SERIES_PLACE),
    ("/v1/evaluations", SERIES_PLACE),
    ("/v1/tallies", SERIES_PLACE),
    (LOGS, SERIES_PLACE),
    ("/v1/ledger", SERIES_PLACE),
    ("/v1/metrics", token(Place(MINUTE, NOON, {"tenant_id": "a", "route": None, "model": "c"}))),
    ("/v1/metrics", token(Place(MINUTE, NOON, {"tenant_id": "a", "route": "b\0", "model": "c"}))),
    ("/v1/metrics", token(Place(MINUTE, NOON, {"tenant_id": "a", "route": "b", "true or model": "c"}))),
    ("/v1/metrics", token(Place(MINUTE, -1, {"tenant_id": "a", "route": "b", "model": "c"}))),
    ("/v1/metrics", "A" * 8_001),
    ("/v1/metrics?group_by=sender", token(Place(MINUTE, NOON, {"tenant_id": "a", "facet": "region", "value": "c"}))),
    (LOGS, token(LinePlace(NOON, "id", "x"))),
]


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    scores = Scores()
    scores.add(0.5, None)
    for tenant in ("acme", LONG):
        for minute in range(3):
            at, key, version = NOON + minute * MINUTE, f"{tenant} {minute}".encode(), (1, 1)
            line = b'{"level":"INFO","service":"api","message":"calm"}'
            await store.write(
                [
                    metric(cell([1000]), tenant_id=tenant, window_start_us=at, model=LONG),
                    FacetRow(tenant, "region", "eu", at, MINUTE, cell([1000]), 1, False, version),
                    EvaluationRow(key, tenant, LONG, LONG, LONG, at, MINUTE, scores, 1, False, version),
                    TallyRow(key, tenant, "metric", LONG, LONG, at, MINUTE, Tally(1), version),
                    KeptRow(key, tenant, "log", "id", NOON, line, version),
                ]
            )
    async with serving(tmp_path, pool=store.pool) as site:
        yield site


@pytest.mark.parametrize(("path", "name"), LISTS, ids=[path for path, _ in LISTS])
async def test_links_lead_through_the_list(site: Site, path: str, name: str) -> None:
    joined = "&" if "?" in path else "?"
    whole = (await (await site.http.get(path)).json())[name]
    assert len(whole) >= 2
    seen, link = [], f"{path}{joined}limit=1"
    for _ in whole:
        asked = link
        answer = await site.http.get(asked)
        page = await answer.json()
        assert (answer.status, page["count"]) == (200, 1), page
        seen += page[name]
        link = f"{path}{joined}limit=1&cursor={page['next']}"
        if len(link) > 2_000:
            assert "Link" not in answer.headers
            as_lines = await site.http.get(f"{asked}&format=ndjson")
            assert page["next"] in str(as_lines.links["next"]["url"])
        else:
            assert str(answer.links["next"]["url"]).endswith(link)
    answer = await site.http.get(link)
    assert (await answer.json())[name] == []
    assert "Link" not in answer.headers
    assert seen == whole


@pytest.mark.parametrize(("path", "cursor"), OF_OTHERS)
async def test_what_is_no_place_in_this_list_is_refused(tmp_path: Path, path: str, cursor: str) -> None:
    joined = "&" if "?" in path else "?"
    async with serving(tmp_path) as site:  # no pool: nothing of it may reach Postgres
        answer = await site.http.get(f"{path}{joined}{urlencode({'cursor': cursor})}")
        assert (answer.status, (await answer.json())["field"]) == (400, "cursor")


async def test_the_last_place_there_is_is_one(site: Site) -> None:
    answer = await site.http.get(f"/v1/metrics?limit=100&cursor={LAST_PLACE}")
    assert (answer.status, (await answer.json())["count"]) == (200, 6)


async def test_a_tenants_key_goes_on_in_its_own_rows(guarded: Guarded) -> None:
    of_all, own = guarded.secrets[None, "read"], guarded.secrets[TENANT, "read"]
    for path, name in LISTS:
        if "from=" not in path:
            await _stays_in_its_own(guarded, path, name, of_all, own)


async def _stays_in_its_own(guarded: Guarded, path: str, name: str, of_all: str, own: str) -> None:
    """Wherever a place comes from."""
    joined = "&" if "?" in path else "?"
    link = f"{path}{joined}limit=1"
    found = []
    while link:
        page = await (await guarded.ask("GET", link, of_all)).json()
        found += [row["tenant_id"] for row in page[name]]
        link = page["next"] and f"{path}{joined}limit=1&cursor={page['next']}"
        if link:
            seen = await (await guarded.ask("GET", link, own)).json()
            assert OTHER not in [row["tenant_id"] for row in seen[name]], path
    assert {TENANT, OTHER} <= set(found), path
