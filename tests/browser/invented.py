"""Answers of every route that the page asks, of one invented hour, in the shapes of docs/api.md. For the tests."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, Route

NOW = datetime.now(UTC)
ROUTES = ("chat", "search", "summarize", "agent/plan", "extract")
MODELS = (
    ("openai", "gpt-4o-mini", 0.40, 0.11),
    ("openai", "gpt-4o", 0.20, 2.9),
    ("anthropic", "claude-sonnet-4-5", 0.15, 4.7),
    ("google", "gemini-2.5-flash", 0.12, 0.6),
    (None, "mistral-large-latest", 0.08, 1.9),
    (None, "acme-chat-7b", 0.05, None),
)
"""(provider, model, share of the calls, dollars per 1,000 calls)."""
TYPES = ("timeout", "rate_limit", "server_error", "content_filter", "other")


def rfc(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _minute(ago: int) -> str:
    return rfc(NOW.replace(second=0, microsecond=0) - timedelta(minutes=ago))


def row(**given: Any) -> dict[str, Any]:
    """A row of /v1/metrics."""
    requests, errors = given.get("requests", 100), given.get("errors", 2)
    measures = {
        "tenant_id": "acme", "route": None, "model": None, "window_start": _minute(60), "window_end": _minute(0),
        "requests": requests, "errors": errors, "error_rate": errors / requests,
        "avg_latency_ms": 1312.4, "p50_latency_ms": 1100.2, "p95_latency_ms": 2890.7, "p99_latency_ms": 4710.0,
        "min_latency_ms": 12.0, "max_latency_ms": 9100.0, "p95_ttft_ms": 420.0,
        "avg_prompt_tokens": 600.0, "avg_completion_tokens": 130.0,
        "prompt_tokens": requests * 600, "completion_tokens": requests * 130, "cached_tokens": requests * 80,
        "cache_write_tokens": 0, "reasoning_tokens": 12, "estimated_cost_usd": requests * 0.0012,
        "priced": requests, "partly_priced": 0, "unpriced": 0, "reported": 0,
        "price_versions": ["genai-prices 0.2.3"], "revision": 9, "final": False,
    }  # fmt: skip
    return {**measures, **given}


def models() -> list[dict[str, Any]]:
    rows = []
    for _, model, weight, price in MODELS:
        requests = int(6200 * weight)
        cost: dict[str, Any] = {"estimated_cost_usd": None if price is None else requests * price / 1000}
        if price is None:
            cost |= {"priced": 0, "unpriced": requests, "price_versions": []}
        rows.append(row(model=model, requests=requests, errors=int(requests * 0.02), **cost))
    return [*rows, row(tenant_id="globex", model="gpt-4o", requests=100, price_versions=["overrides 3f9a0c12"])]


def routes() -> list[dict[str, Any]]:
    errors = (21, 14, 12, 187, 9)
    return [row(route=name, requests=1240, errors=failed) for name, failed in zip(ROUTES, errors, strict=True)]


def point(ago: int) -> dict[str, Any]:
    requests = int(100 + 40 * math.sin(ago / 7) + (ago * 37) % 17)
    failed = int(requests * (0.25 if 14 <= ago <= 19 else 0.02))
    slow = 1.9 if 30 <= ago <= 34 else 1
    return {
        "at": _minute(ago), "requests": requests, "errors": failed,
        "p50_latency_ms": 1050 + 60 * math.sin(ago / 3), "p95_latency_ms": slow * (2700 + 300 * math.sin(ago / 5)),
        "p99_latency_ms": slow * (4400 + 500 * math.cos(ago / 4)),
        "prompt_tokens": requests * 610, "completion_tokens": requests * 128, "estimated_cost_usd": requests * 0.00131,
    }  # fmt: skip


def totals(scale: float) -> dict[str, Any]:
    return {
        "requests": int(6200 * scale), "errors": int(243 * scale**3), "error_rate": 243 * scale**2 / 6200,
        "avg_latency_ms": 1312.4, "p50_latency_ms": 1100.2, "p95_latency_ms": 2890.7 * scale, "p99_latency_ms": 4710.0,
        "prompt_tokens": int(3_800_000 * scale), "completion_tokens": int(801_000 * scale),
        "estimated_cost_usd": 9.2731 * scale, "unpriced": 310, "active_models": 6, "active_routes": 5, "tenants": 4,
    }  # fmt: skip


def call(number: int) -> dict[str, Any]:
    failed = number % 3 == 0
    provider, model, _, price = MODELS[number % len(MODELS)]
    return {
        "tenant_id": "acme", "request_id": f"r-{number}", "at": rfc(NOW - timedelta(seconds=7 * number)),
        "route": ROUTES[3 if failed else number % 5], "model": model, "provider": provider,
        "latency_ms": 700.5 + 37 * number, "ttft_ms": 210.25, "prompt_tokens": 500 + number, "completion_tokens": 90,
        "cached_tokens": 40, "cache_write_tokens": 0, "reasoning_tokens": 0,
        "estimated_cost_usd": None if price is None else price / 1000,
        "error_type": TYPES[number % 4] if failed else None, "error_type_raw": TYPES[number % 4] if failed else None,
        "error": "upstream timed out after 30 s" if failed else None, "finish_reason": None if failed else "stop",
        "user_id_hash": "b8f1d3aa90c2", "session_id": f"session-{number // 4}", "experiment": "shorter prompts",
        "variant": "B", "prompt_version": "v7", "model_version": None, "region": "eu-west-1",
        "kept": ["error"] if failed else ["slow", "sample"] if number % 2 else ["sample"],
    }  # fmt: skip


def session(number: int) -> dict[str, Any]:
    return {
        "tenant_id": "acme", "session_id": f"session-{number}", "user": "b8f1d3aa90c2",
        "started_at": _minute(20 + number), "last_at": _minute(number), "calls": 4 + number, "errors": number % 2,
        "prompt_tokens": 2100, "completion_tokens": 480, "estimated_cost_usd": 0.0123, "unpriced": 0,
        "routes": ["chat", "search"],
    }  # fmt: skip


def variant(name: str, mean: float, **difference: Any) -> dict[str, Any]:
    nothing = {"difference": None, "relative_difference": None, "difference_interval": None, "p_value": None}
    return {
        "variant": name, "n": 1510, "mean": mean, "standard_deviation": 410.0, "interval": [mean - 60, mean + 60],
        **nothing, **difference,
    }  # fmt: skip


def cohort(days_ago: int) -> dict[str, Any]:
    first = NOW.date() - timedelta(days=days_ago)
    days = []
    for day in range(1, 8):
        returned = max(0, 90 - 13 * day)
        date = first + timedelta(days=day)
        known = date <= NOW.date()
        rate = returned / 200 if known else None
        days.append({"day": day, "date": str(date), "returned": returned * known, "rate": rate,
                     "complete": date < NOW.date()})  # fmt: skip
    return {"cohort_date": str(first), "by": None, "value": None, "size": 200, "days": days}


def _facets(name: str) -> list[dict[str, Any]]:
    return [row(facet=name, value=f"{name} {letter}", requests=900 - 100 * at) for at, letter in enumerate("abcdef")]


def _metrics(asked: dict[str, str]) -> dict[str, Any]:
    by = asked.get("group_by", "route,model")
    rows = {"model": models, "route": routes, "none": lambda: [row(requests=6200, errors=243)]}.get(by)
    if rows is None and by == "route,model":
        found = [row(route=f"route-{at}", model=MODELS[at % 6][1], requests=5000 - 9 * at) for at in range(500)]
    else:
        found = rows() if rows else _facets(by)
    return {"metrics": found, "count": len(found)}


def answer(path: str, asked: dict[str, str]) -> Any:
    """The answer to a question, or None for what is not there."""
    calls = [call(number) for number in range(40)]
    if asked.get("kept") == "error":
        calls = [each for each in calls if each["error_type"]]
    errors = [
        {"tenant_id": "acme", "error_type": TYPES[at % 5], "route": "agent/plan" if at < 3 else ROUTES[at % 5],
         "model": MODELS[at % 6][1], "count": 120 - 11 * at, "share": (120 - 11 * at) / 243, "last_seen": _minute(at)}
        for at in range(9)
    ]  # fmt: skip
    if path == "/v1/metrics":
        return _metrics(asked)
    if path.startswith("/v1/calls/"):
        number = int(path.rpartition("-")[2])
        texts = {"metadata": {"country": "CH"}, "prompt": "Plan a trip to <b>Bern</b>.", "response": "Day 1: …"}
        return {"calls": [call(number) | texts]}
    if path.startswith("/v1/sessions/"):
        return {"sessions": [session(1)], "calls": [call(number) for number in (6, 5, 4)]}
    if path.startswith("/v1/experiments/"):
        sample = {"expected": {"A": 0.5, "B": 0.5}, "observed": {"A": 1510, "B": 1502}, "p_value": 0.8, "ok": True}
        different = {"difference": -231.0, "relative_difference": -0.176, "difference_interval": [-310.0, -152.0]}
        two = [variant("A", 1312.4), variant("B", 1081.4, **different, p_value=0.0004)]
        return {"tenant_id": "acme", "experiment": "shorter prompts", "metric": asked["metric"], "baseline": "A",
                "alpha": 0.05, "variants": two, "sample_ratio": sample}  # fmt: skip
    fixed = {
        "/v1/tenants": {"tenants": [{"tenant_id": name, "last_window": _minute(0)} for name in ("acme", "globex")]},
        "/v1/series": {"series": [{"tenant_id": "acme", "route": name, "model": "gpt-4o"} for name in ROUTES]},
        "/api/v1/analytics/dashboard": {"from": _minute(60), "to": _minute(0), **totals(1), "previous": totals(0.9)},
        "/api/v1/analytics/requests/timeseries": {"points": [point(ago) for ago in range(59, -1, -1)]},
        "/api/v1/analytics/providers": {"providers": [
            {"provider": name, "requests": n, "errors": 20, "error_rate": 20 / n, "avg_latency_ms": 1200.0,
             "p95_latency_ms": 2900.0, "prompt_tokens": n * 600, "completion_tokens": n * 130,
             "estimated_cost_usd": n * 0.001, "unpriced": 0, "share": n / 6200}
            for name, n in (("openai", 3720), ("anthropic", 930), ("google", 744))
        ]},
        "/api/v1/analytics/errors": {"errors": [
            {"error_type": name, "count": n, "share": n / 243, "last_seen": _minute(at),
             "routes": ["agent/plan", "chat"],
             "models": ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash"]}
            for at, (name, n) in enumerate(zip(TYPES, (120, 70, 30, 15, 8), strict=True))
        ], "total": 243, "error_rate": 243 / 6200},
        "/v1/errors/top": {"errors": errors, "count": len(errors), "total": 243},
        "/v1/calls": {"calls": calls, "count": len(calls), "next": "b2xk"},
        "/v1/sessions": {"sessions": [session(number) for number in range(12)], "count": 12, "next": None},
        "/v1/experiments": {"experiments": [{"tenant_id": "acme", "experiment": "shorter prompts",
            "variants": ["A", "B"], "calls": 3012, "first_at": _minute(60), "last_at": _minute(0)}], "count": 1},
        "/v1/retention": {"cohorts": [cohort(days_ago) for days_ago in range(9)]},
        "/v1/funnel": {"of": asked.get("of", "users"), "steps": [
            {"route": name, "reached": n, "share_of_first": n / 180, "share_of_previous": n / before}
            for name, n, before in (("chat", 180, 180), ("search", 96, 180), ("summarize", 41, 96))
        ]},
        "/api/v1/status": {
            "status": "healthy", "version": "0.1.0", "uptime_s": 5400.0, "worker": "worker-1",
            "parts": {name: {"ok": True, "detail": ""} for name in ("log", "postgres", "partitions", "lag")},
            "lag_records": 42, "watermark_lag_s": 31.2, "checkpoint_age_s": 0.31, "freshness_p95_s": 0.87,
            "dead_letters": {"malformed": 2, "late": 1}, "price_catalogue": "genai-prices 0.2.3",
            "settings": {"auth": "off", "capture_content": False, "facets": ["provider", "region"], "window_s": 60},
        },
        "/v1/ledger": {"ledger": [
            {"tenant_id": tenant, "minute": _minute(ago), "received": 220, "aggregated": 210, "pending": 6,
             "orphaned": 1, "duplicate": 2, "late": 0, "rejected": 1, "closes": True}
            for ago in range(60) for tenant in ("acme", "globex")
        ]},
        "/v1/dlq": {"letters": [
            {"topic": "llm.calls", "partition": 1, "offset": 70 + at, "reason": reason, "tenant_id": "acme",
             "field": "latency_ms", "detail": "not a number from 0 to 3,600,000", "time": _minute(at),
             "size_bytes": 210, "truncated": False, "replayed_at": None}
            for at, reason in enumerate(("invalid", "malformed", "late"))
        ], "count": 3},
    }  # fmt: skip
    return fixed.get(path)


async def install(page: Page) -> None:
    """Answer all that the page asks from here on."""

    async def serve(route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.path == "/v1/live":
            await route.fulfill(content_type="text/event-stream", body='event: hello\ndata: {"version":"0"}\n\n')
        elif (found := answer(url.path, {name: values[-1] for name, values in parse_qs(url.query).items()})) is None:
            await route.fulfill(status=404, json={"title": "Not Found", "status": 404, "detail": "nothing here"})
        else:
            await route.fulfill(json=found)

    await page.route(re.compile(r"/v1/"), serve)
