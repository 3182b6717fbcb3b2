"""Each view, of an invented hour: what it shows is what the API has answered, and it says what a person looks for."""

import math
from collections import Counter
from typing import Any

import pytest
from playwright.async_api import Response, expect

from browser import invented
from browser.conftest import Visit
from browser.reading import numbers, numbers_in, table, tiles

pytestmark = pytest.mark.asyncio(loop_scope="session")

VIEWS = {
    "overview": ["What needs attention", "Cost by model", "Calls per minute", "Latency", "Busiest routes"],
    "breakdown": ["The busiest routes", "By route"],
    "breakdown&by=region": ["By region"],
    "breakdown&by=tenant": ["The busiest tenants", "By tenant"],
    "errors": ["By type", "By route, model and type", "Newest failed calls"],
    "cost": ["Cost over time", "By model", "By provider"],
    "experiments": ["Experiments", "shorter prompts of acme"],
    "users": ["Who comes back", "Funnel"],
    "calls": ["Recent calls"],
    "calls&call=r-3&of=acme": ["Call r-3", "Recent calls"],
    "sessions": ["Sessions"],
    "sessions&session=session-1": ["Session session-1", "Sessions"],
    "pipeline": ["This server", "Ledger", "Dead letters"],
}


def merged_models() -> dict[str, Counter[str]]:
    """Sums of each model, over tenants."""
    names = (
        "estimated_cost_usd",
        "requests",
        "priced",
        "unpriced",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
    )
    sums: dict[str, Counter[str]] = {}
    for row in invented.models():
        sums.setdefault(row["model"], Counter()).update({name: row[name] or 0 for name in names})
    return sums


def derived(view: str) -> set[float]:
    """Numbers that the page works out itself, by sums and shares of those answered."""
    models, routes, totals = invented.models(), invented.routes(), invented.totals(1)
    cost = sum(row["estimated_cost_usd"] or 0 for row in models)
    if view == "overview":
        rate = sum(invented.point(ago)["estimated_cost_usd"] for ago in range(1, 6)) * 60 / 5
        worst = max(row["errors"] / row["requests"] for row in routes)
        tokens = totals["prompt_tokens"] + totals["completion_tokens"]
        return {rate, tokens, worst, 3} | {each["estimated_cost_usd"] for each in merged_models().values()}
    if view == "cost":
        sums = merged_models().values()
        priced = [row for row in sums if row["priced"]]
        shares = {row["estimated_cost_usd"] / cost for row in priced}
        each = {row["estimated_cost_usd"] / row["priced"] * 1000 for row in priced}
        return shares | each | {value for row in sums for value in row.values()}
    if view == "pipeline":
        books = invented.answer("/v1/ledger", {})["ledger"]
        return {sum(row[name] for row in books) for name in books[0] if isinstance(books[0][name], int)} | {3}
    if view.startswith("sessions"):
        return {2580}
    return set()


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_has_its_parts_and_only_numbers_of_the_api(visit: Visit, view: str) -> None:
    answers: list[Response] = []
    page = await visit(f"view={view}", prepare=lambda page: _keep(page, answers))
    for title in VIEWS[view]:
        await expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    known = set().union(*[numbers_in(await answer.json()) for answer in answers]) | derived(view.partition("&")[0])
    shown = await numbers(page)
    assert len(shown) > 3
    strange = {value for value in shown if not any(math.isclose(value, each, rel_tol=1e-12) for each in known)}
    assert strange == set()
    assert await page.locator(".notice").count() == 0
    assert "undefined" not in (text := await page.inner_text("body")) and "NaN" not in text and "[object" not in text


async def _keep(page: Any, answers: list[Response]) -> None:
    page.on(
        "response",
        lambda answer: answers.append(answer) if "/v1/" in answer.url and "/live" not in answer.url else None,
    )


async def test_the_overview_says_each_total_where_it_belongs(visit: Visit) -> None:
    page = await visit()
    await expect(page.get_by_role("heading", name="Latency", exact=True)).to_be_visible()
    totals, found = invented.totals(1), await tiles(page)
    assert found["Calls"] == [totals["requests"]]
    assert found["Error rate"] == [totals["error_rate"], totals["errors"]]
    assert found["Latency p95"] == [totals[f"p{each}_latency_ms"] for each in (95, 50, 99)]
    tokens = totals["prompt_tokens"], totals["completion_tokens"]
    assert found["Tokens"] == [sum(tokens), *tokens]
    assert found["Cost"] == [totals["estimated_cost_usd"], totals["unpriced"]]
    changes = await page.locator(".tile .change [aria-hidden]").all_inner_texts()
    assert changes == ["▲ 11\u00a0%", "▲ 0.7 pt", "▲ 11\u00a0%", "▲ 11\u00a0%", "▲ 11\u00a0%"]
    told = await page.get_by_role("img").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert told[0].startswith("6,200 calls, ") and "95 % up to 2.89\u00a0s" in told[1]


async def test_who_looks_for_the_first_time_sees_what_fails_why_and_what_costs_most(visit: Visit) -> None:
    page = await visit()
    attention = page.get_by_role("region", name="What needs attention")
    await expect(attention.get_by_role("listitem")).to_have_count(4)
    texts = [" ".join(text.split()) for text in await attention.get_by_role("listitem").all_inner_texts()]
    assert texts[0] == "agent/plan fails most: 15 % 187 of 1,240 calls; mostly timeout (64 % of its errors) See why"
    assert texts[1].startswith("claude-sonnet-4-5 costs most: $4.37 45 % of the cost, $4.70 per 1,000 calls")
    assert texts[2].startswith("acme-chat-7b has no price 310 of its calls")
    assert texts[3].startswith("3 events could not be counted 1 invalid, 1 malformed, 1 late")
    await attention.get_by_role("link", name="See why").click()
    await expect(page.get_by_role("link", name="Only of agent/plan")).to_be_visible()
    assert {row["Route"] for row in await table(page, "Errors by route, model and type")} == {"agent/plan"}
    assert "upstream timed out" in (await table(page, "Calls"))[0]["Outcome"]


async def test_a_table_has_each_number_in_its_column(visit: Visit) -> None:
    page = await visit("view=breakdown&by=model&sort=model")
    await expect(page.get_by_role("region", name="Calls by Model")).to_be_visible()
    columns = {
        "Model": "model", "Tenant": "tenant_id", "Calls": "requests", "Errors": "error_rate", "p50": "p50_latency_ms",
        "p95": "p95_latency_ms", "p99": "p99_latency_ms", "Tokens in": "prompt_tokens",
        "Tokens out": "completion_tokens", "Cost": "estimated_cost_usd",
    }  # fmt: skip
    rows = sorted(invented.models(), key=lambda row: row["model"])
    assert await table(page, "Calls by Model") == [
        {title: row[name] for title, name in columns.items()} for row in rows
    ]


async def test_a_models_cost_is_that_of_all_tenants(visit: Visit) -> None:
    page = await visit("view=cost")
    await expect(page.get_by_role("region", name="Cost by model")).to_be_visible()
    rows = {row["Model"]: row for row in await table(page, "Cost by model")}
    sums = merged_models()
    assert {name: row["Calls"] for name, row in rows.items()} == {name: each["requests"] for name, each in sums.items()}
    assert rows["gpt-4o"]["Cost"] == sums["gpt-4o"]["estimated_cost_usd"]
    assert rows["gpt-4o"]["Priced by"] == "genai-prices 0.2.3, overrides 3f9a0c12"
    assert (rows["acme-chat-7b"]["Cost"], rows["acme-chat-7b"]["Unpriced"]) == (None, 310)


async def test_texts_of_a_call_are_shown_as_they_are(visit: Visit) -> None:
    page = await visit("view=calls&call=r-3&of=acme")
    details = page.get_by_role("region", name="Call r-3")
    await expect(details.get_by_text("Plan a trip to <b>Bern</b>.")).to_be_visible()
    await details.get_by_role("link", name="session-0").click()
    await expect(page.get_by_role("heading", name="Session session-0")).to_be_visible()


async def test_an_experiment_is_told_in_words(visit: Visit) -> None:
    page = await visit("view=experiments")
    await expect(page.get_by_text("Latency of “B” is 18\u00a0% lower than of “A”.")).to_be_visible()
    rows = await table(page, "Latency by variant")
    assert [(row["Variant"], row["Latency"], row["Difference"]) for row in rows] == [
        ("A (baseline)", 1312.4, "–"),
        ("B", 1081.4, -231),
    ]
    assert rows[1]["p"] == 0.0004
