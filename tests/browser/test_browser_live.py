"""The page on a running StreamLens: its numbers are the API's, and a call that is sent moves them by itself."""

import re
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, expect

from browser.conftest import Visit
from browser.reading import table
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


async def test_tables_have_the_apis_numbers(visit: Visit, server: Server) -> None:
    server.post("/v1/llm/events", calls("numbers", 60, region="eu"))
    counted(server, "numbers", 60)
    end = (int(time.time()) // 60 + 1) * 60
    begin, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (end - 600, end))
    for by, title, name in (("route", "Route", "route"), ("model", "Model", "model"), ("region", "Region", "value")):
        asked = urlencode({"tenant_id": "numbers", "from": begin, "to": end, "step": "all", "group_by": by})
        rows = server.get(f"/v1/metrics?{asked}")[1]["metrics"]
        assert len(rows) == (1 if by == "region" else 3)
        page = await visit(
            urlencode({"view": "breakdown", "by": by, "tenant": "numbers", "from": begin, "to": end}),
            invented=False,
            failing=True,
        )
        await expect(page.get_by_role("region", name=f"Calls by {title}")).to_be_visible()
        shown = await table(page, f"Calls by {title}")
        expected = [
            {(title if by != "region" else "Region"): row[name], **{to: row[each] for to, each in COLUMNS.items()}}
            for row in rows
        ]
        assert sorted(shown, key=str) == sorted(expected, key=str)


async def test_a_call_moves_the_numbers_without_a_reload(visit: Visit, server: Server) -> None:
    server.post("/v1/llm/events", calls("live", 3))
    counted(server, "live", 3)
    page = await visit("view=breakdown&by=tenant&tenant=live", invented=False, failing=True)
    await expect(page.get_by_role("status")).to_have_text("live")
    number = page.get_by_role("row", name=re.compile("^live")).locator("data").first
    await expect(number).to_have_attribute("value", "3")
    await page.evaluate("window.same = true")
    server.post("/v1/llm/events", calls("live", 4))
    await expect(number).to_have_attribute("value", "4", timeout=WITHIN_S * 1000)
    assert await page.evaluate("window.same")


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
