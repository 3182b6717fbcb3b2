"""Questions about a span over HTTP: which span is meant, how close points are, whose numbers they are, and the status.

What the numbers must be is compared in `test_postgres_analytics.py`.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from guarded_site import OTHER, TENANT, Guarded, guarded
from postgres_rows import MINUTE, NOON, cell, metric
from streamlens.metrics import DEAD_LETTERS
from streamlens.postgres.store import PostgresStore
from web.services import Part, Progress
from web_server import WELL, Site, serving

__all__ = ["guarded"]

HOUR = 60 * MINUTE
DAY = 24 * HOUR
DASHBOARD = "/api/v1/analytics/dashboard"
TIMESERIES = "/api/v1/analytics/requests/timeseries"
SPANNED = (DASHBOARD, TIMESERIES, "/api/v1/analytics/providers", "/api/v1/analytics/errors", "/v1/errors/top")


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    """At half past noon."""
    hours = {0: 1, -1: 2, -12: 4, -24: 8, -30: 16, -48: 32, -60: 64}
    content = {at: cell([1000] * calls, errors=calls, error_types={"timeout": calls}) for at, calls in hours.items()}
    await store.write([metric(each, window_start_us=NOON + at * HOUR) for at, each in content.items()])
    async with serving(tmp_path, pool=store.pool, clock_us=lambda: NOON + HOUR // 2) as site:
        yield site


async def asked(site: Site, path: str, status: int = 200, **query: Any) -> dict[str, Any]:
    answer = await site.http.get(path, params=query)
    assert answer.status == status, await answer.text()
    told: dict[str, Any] = await answer.json()
    return told


def at(us: int) -> str:
    return str(us // 1000)


async def test_a_span_is_the_last_day_and_is_compared_with_the_one_before(site: Site) -> None:
    told = await asked(site, DASHBOARD)
    assert (told["from"], told["to"]) == ("2026-11-17T12:30:00Z", "2026-11-18T12:30:00Z")
    assert (told["requests"], told["previous"]["requests"]) == (1 + 2 + 4, 8 + 16)
    told = await asked(site, DASHBOARD, to=at(NOON - 29 * HOUR))
    assert (told["requests"], told["previous"]["requests"]) == (16 + 32, 64)
    told = await asked(site, DASHBOARD, **{"from": at(NOON - HOUR)})
    assert (told["from"], told["requests"], told["previous"]["requests"]) == ("2026-11-18T11:00:00Z", 3, 0)
    told = await asked(site, DASHBOARD, **{"from": at(NOON + DAY)})
    assert (told["from"], told["to"], told["requests"]) == ("2026-11-19T12:00:00Z", "2026-11-19T12:00:00Z", 0)
    assert (told["estimated_cost_usd"], told["error_rate"], told["p95_latency_ms"]) == (None, None, None)
    told = await asked(site, DASHBOARD, **{"from": "0", "to": at(NOON)})
    assert (told["requests"], told["previous"]["requests"]) == (126, 0)


async def test_only_minutes_that_are_over_are_compared(tmp_path: Path, store: PostgresStore) -> None:
    await store.write([metric(cell([1000]), window_start_us=NOON + each * MINUTE) for each in range(-20, 2)])
    async with serving(tmp_path, pool=store.pool, clock_us=lambda: NOON + MINUTE * 4 // 3) as site:
        for begin, end, now, before in (
            (NOON - 2 * MINUTE, None, 4, 3),
            (NOON - MINUTE * 8 // 3, None, 4, 3),
            (NOON - 2 * MINUTE, NOON + HOUR, 4, 3),
            (NOON - 2 * MINUTE, NOON + MINUTE, 3, 3),
            (NOON - MINUTE * 11 // 2, NOON - MINUTE * 7 // 2, 2, 2),
            (NOON + MINUTE, None, 1, 0),
            (NOON + HOUR, NOON + 2 * HOUR, 0, 0),
        ):
            span = {"from": at(begin)} | ({} if end is None else {"to": at(end)})
            told = await asked(site, DASHBOARD, **span)
            assert (told["requests"], told["previous"]["requests"]) == (now, before), span
        told = await asked(site, DASHBOARD, **{"from": "9999-12-31T23:59:30Z"})
        assert told["previous"]["requests"] == 0


async def test_errors_and_their_rate_are_of_the_span(site: Site) -> None:
    told = await asked(site, "/api/v1/analytics/errors")
    assert (told["total"], told["error_rate"], told["errors"][0]["count"]) == (7, 1.0, 7)
    assert told["errors"][0]["last_seen"] == "2026-11-18T12:00:00Z"
    top = await asked(site, "/v1/errors/top", **{"from": at(NOON - 30 * HOUR), "to": at(NOON)})
    assert (top["count"], top["total"], top["errors"][0]["share"]) == (1, 2 + 4 + 8 + 16, 1.0)
    none = await asked(site, "/api/v1/analytics/errors", tenant_id="nobody")
    assert none == {"errors": [], "total": 0, "error_rate": None}


STEPS = [
    ({}, 25, 3600),
    ({"from": at(NOON - 2 * HOUR)}, 150, 60),
    ({"from": at(NOON - 10 * HOUR)}, 126, 300),
    ({"from": at(NOON - 20 * DAY)}, 21, 86_400),
    ({"from": at(NOON - 2 * HOUR), "step": "1h"}, 3, 3600),
    ({"step": "1m"}, 1_440, 60),
]


@pytest.mark.parametrize(("query", "points", "step_s"), STEPS, ids=range(len(STEPS)))
async def test_points_are_as_close_as_the_span_is_long(
    site: Site, query: dict[str, str], points: int, step_s: int
) -> None:
    told = (await asked(site, TIMESERIES, **query))["points"]
    times = [datetime.fromisoformat(point["at"]) for point in told]
    assert len(told) == points
    assert {(later - earlier).total_seconds() for earlier, later in pairwise(times)} == {step_s}
    assert all(time.timestamp() % step_s == 0 for time in times)


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        (TIMESERIES, {"from": at(NOON - 10 * DAY), "step": "1m"}, "step"),
        (TIMESERIES, {"step": "2m"}, "step"),
        (TIMESERIES, {"from": "0"}, "step"),
        (DASHBOARD, {"route": "/chat"}, "route"),
        ("/v1/metrics/minute", {"model": "x"}, "model"),
        ("/v1/errors/top", {"limit": "0"}, "limit"),
        *((path, {"from": "2000", "to": "1000"}, "from") for path in SPANNED),
    ],
)
async def test_what_is_asked_wrongly_is_named(site: Site, path: str, query: dict[str, str], field: str) -> None:
    assert (await asked(site, path, 400, **query))["field"] == field


async def test_minutes_are_asked_for_by_model_id(site: Site) -> None:
    told = await asked(site, "/v1/metrics/minute", model_id="gpt-5", limit=3)
    assert [(row["minute"][:13], row["requests"]) for row in told["metrics"]] == [
        ("2026-11-18T12", 1),
        ("2026-11-18T11", 2),
        ("2026-11-18T00", 4),
    ]
    assert (await asked(site, "/v1/metrics/minute", model_id="other"))["count"] == 0


async def test_numbers_are_those_of_the_keys_tenant(guarded: Guarded) -> None:
    for path, number in ((DASHBOARD, lambda told: told["requests"]), (TIMESERIES, _total)):
        for secret, calls in ((guarded.secrets[TENANT, "read"], 1), (guarded.secrets[None, "read"], 2)):
            assert number(await (await guarded.ask("GET", path, secret)).json()) == calls
        assert (await guarded.ask("GET", f"{path}?tenant_id={OTHER}", guarded.secrets[TENANT, "read"])).status == 403
    for chosen in ("route=/" + OTHER, "model=gpt-5"):
        told = await guarded.ask("GET", f"{TIMESERIES}?{chosen}", guarded.secrets[TENANT, "read"])
        assert _total(await told.json()) == (0 if OTHER in chosen else 1)


def _total(told: dict[str, Any]) -> int:
    return sum(point["requests"] for point in told["points"])


async def test_postgres_away_is_503(tmp_path: Path, store: PostgresStore) -> None:
    await store.close()
    async with serving(tmp_path, pool=store.pool, clock_us=lambda: NOON) as site:
        for path in (*SPANNED, "/v1/metrics/minute"):
            assert (await site.http.get(path)).status == 503
        assert (await site.http.get("/api/v1/status")).status == 200


# -- the status ------------------------------------------------------------------------------------------------------


async def test_the_status_tells_of_the_process(tmp_path: Path) -> None:
    progress = Progress("w1", 12.5, 7, 31.0, 0.4, 0.6)
    ill = msgspec.structs.replace(WELL, postgres=Part(False, "away"))
    async with serving(tmp_path, health=lambda: ill, progress=lambda: progress) as site:
        DEAD_LETTERS.labels("late").inc()
        told = await asked(site, "/api/v1/status")
    assert told["status"] == "degraded"
    assert told["parts"]["postgres"] == {"ok": False, "detail": "away"}
    assert {name: told[name] for name in Progress.__struct_fields__} == msgspec.structs.asdict(progress)
    assert told["dead_letters"]["late"] >= 1
    facets = told["settings"].pop("facets")
    assert told["settings"] == {"auth": "off", "capture_content": "off", "window_s": 60}
    assert "provider" in facets
    assert told["price_catalogue"].startswith("genai-prices 0.")


async def test_a_tenants_key_is_not_told_of_others_letters(guarded: Guarded) -> None:
    DEAD_LETTERS.labels("late").inc()
    for tenant_id, told in ((TENANT, False), (None, True)):
        answer = await guarded.ask("GET", "/api/v1/status", guarded.secrets[tenant_id, "read"])
        status = await answer.json()
        assert (status["status"], status["dead_letters"] is not None) == ("healthy", told)
