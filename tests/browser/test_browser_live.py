"""The page on a running StreamLens: its numbers are the API's, and a call that is sent moves them by itself."""

import re
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, Route, expect

from browser.conftest import Visit
from browser.reading import numbers, table, tiles
from process_server import Server, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITHIN_S = 2.0


def calls(tenant: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    """Calls of the minute that is over, some of them errors and some without a price."""
    began = (int(time.time()) // 60 - 1) * 60_000
    return [
        {
            "type": "call", "request_id": f"{tenant}-{at}", "tenant_id": tenant, "timestamp": began + at,
            "route": ("chat", "search", "agent/plan")[at % 3], "model": ("gpt-4o", "gpt-4o-mini", "house-7b")[at % 3],
            "provider": "openai", "latency_ms": 100 + 13 * at, "prompt_tokens": 300 + at, "completion_tokens": at,
            **({"error_type": "timeout"} if at % 7 == 0 else {}), **fields,
        }
        for at in range(count)
    ]  # fmt: skip


def counted(server: Server, tenant: str, count: int) -> None:
    path = f"/v1/metrics?tenant_id={tenant}&limit=1000"
    until(lambda: sum(row["requests"] for row in server.get(path)[1]["metrics"]) == count, f"{count} calls")


COLUMNS = {
    "Calls": "requests", "Errors": "error_rate", "p50": "p50_latency_ms", "p95": "p95_latency_ms",
    "p99": "p99_latency_ms", "Tokens in": "prompt_tokens", "Tokens out": "completion_tokens",
    "Cost": "estimated_cost_usd",
}  # fmt: skip


@pytest.fixture(scope="module")
def span(server: Server) -> dict[str, str]:
    """Tenant and time, as in a URL, of some calls that are counted."""
    told = {"region": "eu", "session_id": "s-1", "user_id_hash": "u-1", "experiment": {"name": "e", "variant": "A"}}
    server.post("/v1/llm/events", calls("numbers", 60, **told))
    counted(server, "numbers", 60)
    end = (int(time.time()) // 60 + 1) * 60
    begin, end_text = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (end - 600, end))
    return {"tenant": "numbers", "from": begin, "to": end_text}


def asked(span: dict[str, str], **query: str) -> str:
    return urlencode({"tenant_id": span["tenant"], "from": span["from"], "to": span["to"], **query})


@pytest.mark.parametrize("by", ["route", "model", "region"])
async def test_tables_have_the_apis_numbers(visit: Visit, server: Server, span: dict[str, str], by: str) -> None:
    rows = server.get(f"/v1/metrics?{asked(span, step='all', group_by=by)}")[1]["metrics"]
    assert len(rows) == {"route": 3, "model": 3, "region": 1}[by]
    page = await visit(urlencode({"view": "breakdown", "by": by, **span}), invented=False)
    region = f"Calls by {by.title()}"
    await expect(page.get_by_role("region", name=region)).to_be_visible()
    name = "value" if by == "region" else by
    expected = [{by.title(): row[name], **{to: row[each] for to, each in COLUMNS.items()}} for row in rows]
    assert sorted(await table(page, region), key=str) == sorted(expected, key=str)


async def test_the_overview_has_the_apis_totals(visit: Visit, server: Server, span: dict[str, str]) -> None:
    totals = server.get(f"/api/v1/analytics/dashboard?{asked(span)}")[1]
    page = await visit(urlencode(span), invented=False)
    await expect(page.get_by_role("heading", name="What needs attention")).to_be_visible()
    shown = await tiles(page)
    assert shown["Calls"] == [totals["requests"]] == [60]
    assert shown["Error rate"] == [totals["error_rate"], totals["errors"]] == [9 / 60, 9]
    assert shown["Latency p95"] == [totals[f"p{each}_latency_ms"] for each in (95, 50, 99)]
    assert shown["Tokens"][1:] == [totals["prompt_tokens"], totals["completion_tokens"]]
    assert shown["Cost"] == [totals["estimated_cost_usd"], totals["unpriced"]]
    first = page.get_by_role("region", name="What needs attention").get_by_role("listitem").first
    await expect(first).to_contain_text("mostly timeout (100\u00a0% of its errors)")


HEADINGS = {
    "errors": "Newest failed calls", "cost": "By provider", "experiments": "e", "users": "Funnel",
    "calls&call=numbers-0": "Call numbers-0", "sessions&session=s-1": "Session s-1", "pipeline": "Ledger",
}  # fmt: skip


@pytest.mark.parametrize("view", HEADINGS)
async def test_every_view_has_its_answers(visit: Visit, span: dict[str, str], view: str) -> None:
    page = await visit(f"view={view}&{urlencode(span)}", invented=False)
    await expect(page.get_by_role("heading", name=HEADINGS[view], exact=True)).to_be_visible()
    assert await page.locator("main .notice").all_inner_texts() in ([], [NO_LETTERS])
    assert await numbers(page)


NO_LETTERS = "None\n\nEvery event of this time could be counted, or waits for its other half."


async def test_a_call_moves_the_numbers_without_a_reload(visit: Visit, server: Server) -> None:
    server.post("/v1/llm/events", calls("live", 3))
    counted(server, "live", 3)
    page = await visit("view=breakdown&by=tenant&tenant=live", invented=False)
    await expect(page.get_by_role("status")).to_have_text("live")
    number = page.get_by_role("row", name=re.compile("^live")).locator("data").first
    await expect(number).to_have_attribute("value", "3")
    await page.evaluate("window.same = true")
    server.post("/v1/llm/events", calls("live", 4))
    await expect(number).to_have_attribute("value", "4", timeout=WITHIN_S * 1000)
    assert await page.evaluate("window.same")


async def test_a_row_that_reaches_the_database_after_the_stream_is_seen(visit: Visit, server: Server) -> None:
    server.post("/v1/llm/events", calls("behind", 3))
    counted(server, "behind", 3)
    bodies: list[bytes] = []
    early = 0

    async def prepare(page: Page) -> None:
        async def answer(route: Route) -> None:
            nonlocal early
            response = await route.fetch()
            if early:
                early -= 1  # as before the row has come
            else:
                bodies.append(await response.body())
            await route.fulfill(response=response, body=bodies[-1])

        await page.route(re.compile("/v1/metrics"), answer)

    page = await visit("view=breakdown&by=tenant&tenant=behind", invented=False, prepare=prepare)
    number = page.get_by_role("row", name=re.compile("^behind")).locator("data").first
    await expect(number).to_have_attribute("value", "3")
    await expect(page.get_by_role("status")).to_have_text("live")
    early = 2
    server.post("/v1/llm/events", calls("behind", 4))
    await expect(number).to_have_attribute("value", "4", timeout=8_000)


async def test_costs_of_zero_are_drawn_too(visit: Visit, server: Server) -> None:
    free = {"prompt_tokens": 0, "completion_tokens": 0, "model": "gpt-4o"}
    server.post("/v1/llm/events", calls("free", 3, **free))
    counted(server, "free", 3)
    page = await visit("tenant=free", invented=False)
    costs = page.get_by_role("region", name="Cost by model")
    await expect(costs.get_by_role("listitem")).to_contain_text("$0")


async def test_a_hidden_tab_gives_its_connection_back_and_is_live_again_when_seen(visit: Visit) -> None:
    page = await visit("view=pipeline", invented=False)
    await expect(page.get_by_role("status")).to_have_text("live")
    for hidden, event in ((True, "requestfailed"), (False, "request")):
        async with page.expect_event(event, lambda request: "/v1/live" in request.url):
            await page.evaluate(
                """hidden => { Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
                               document.dispatchEvent(new Event("visibilitychange")); }""",
                hidden,
            )
    await expect(page.get_by_role("status")).to_have_text("live")


async def test_without_a_stream_the_page_polls_and_finds_back_to_it(visit: Visit, server: Server) -> None:
    server.post("/v1/llm/events", calls("polled", 3))
    counted(server, "polled", 3)
    stream = re.compile("/v1/live")

    async def prepare(page: Page) -> None:
        await page.route(stream, lambda route: route.abort())

    page = await visit("view=breakdown&by=tenant&tenant=polled", invented=False, failing=True, prepare=prepare)
    await expect(page.get_by_role("status")).to_have_text("polling every 2 s")
    number = page.get_by_role("row", name=re.compile("^polled")).locator("data").first
    await expect(number).to_have_attribute("value", "3")
    server.post("/v1/llm/events", calls("polled", 4))
    await expect(number).to_have_attribute("value", "4")
    await page.unroute(stream)
    await expect(page.get_by_role("status")).to_have_text("live")
