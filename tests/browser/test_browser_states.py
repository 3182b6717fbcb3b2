"""With nothing to show, or nobody to answer: the page says what it sees and what to do, and goes on by itself."""

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from browser.conftest import Visit
from process_server import Server, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROBLEM = "application/problem+json"


def answering(pattern: str, **answer: Any) -> Any:
    """Answers what matches `pattern` so, over what is answered already."""

    async def prepare(page: Page) -> None:
        await page.route(re.compile(pattern), lambda route: route.fulfill(**answer))

    return prepare


def problem(status: int, detail: str) -> dict[str, Any]:
    body = json.dumps({"title": "x", "status": status, "detail": detail})
    return {"status": status, "content_type": PROBLEM, "body": body}


async def test_before_the_first_call_the_page_says_how_to_send_one(visit: Visit) -> None:
    page = await visit(prepare=answering("/v1/tenants", json={"tenants": []}))
    await expect(page.get_by_role("heading", name="No calls yet")).to_be_visible()
    await expect(page.get_by_text(re.compile(r"curl http://127.0.0.1:\d+/v1/llm/call -d"))).to_be_visible()


async def test_a_time_without_calls_is_empty_and_says_so(visit: Visit) -> None:
    page = await visit("view=breakdown", prepare=answering("/v1/metrics", json={"metrics": [], "count": 0}))
    await expect(page.get_by_role("heading", name="No calls in this time")).to_be_visible()
    await expect(page.get_by_text("Choose a longer time above")).to_be_visible()


async def test_a_route_that_the_server_lacks_is_one_panel_not_the_page(visit: Visit) -> None:
    page = await visit("view=errors", prepare=answering("/v1/errors/top", **problem(404, "nothing here")), failing=True)
    await expect(page.get_by_role("heading", name="Not on this server")).to_be_visible()
    await expect(page.get_by_text("It has nothing at /v1/errors/top.")).to_be_visible()
    await expect(page.get_by_role("region", name="Errors by type")).to_be_visible()


async def test_a_question_that_is_refused_says_why(visit: Visit) -> None:
    page = await visit("view=users", prepare=answering("/v1/funnel", **problem(400, "at most 8 steps")), failing=True)
    await expect(page.get_by_text("at most 8 steps. Choose something else above.")).to_be_visible()


async def test_while_postgres_is_away_the_page_says_so_and_comes_back(visit: Visit) -> None:
    away = problem(503, "Postgres does not answer; events are taken all the same")
    page = await visit(prepare=answering("/v1/tenants", **away), failing=True)
    await expect(page.get_by_role("heading", name="No numbers at the moment")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("no answer")
    await page.unroute(re.compile("/v1/tenants"))
    await expect(page.get_by_role("heading", name="What needs attention")).to_be_visible()


async def test_numbers_that_grow_old_stay_and_say_how_old_they_are(visit: Visit) -> None:
    page = await visit(failing=True)
    await expect(page.get_by_role("heading", name="What needs attention")).to_be_visible()
    await page.route(re.compile("/v1/"), lambda route: route.abort())
    stale = re.compile(r"stale since \d\d:\d\d:\d\d: the server does not answer")
    await expect(page.get_by_role("status")).to_have_text(stale, timeout=15_000)
    await expect(page.get_by_role("heading", name="What needs attention")).to_be_visible()
    await page.unroute_all()
    await page.route(re.compile("/v1/live"), lambda route: route.abort())
    await expect(page.get_by_role("status")).to_have_text(re.compile("polling|live"))


async def test_a_slow_answer_is_waited_for_under_what_was_there(visit: Visit) -> None:
    page = await visit()
    await expect(page.get_by_role("heading", name="What needs attention")).to_be_visible()
    held: list[Route] = []
    await page.route(re.compile("/v1/ledger"), lambda route: held.append(route))
    await page.get_by_role("link", name="Pipeline").click()
    await expect(page.locator("main")).to_have_attribute("aria-busy", "true")
    await expect(page.get_by_role("heading", name="What needs attention")).to_be_visible()
    await held[0].fulfill(json={"ledger": []})
    await expect(page.get_by_role("heading", name="No events in this time")).to_be_visible()


async def test_a_stream_that_ends_is_polled_for(visit: Visit) -> None:
    page = await visit()  # this hour's stream ends after its first event
    await expect(page.get_by_role("status")).to_have_text("polling every 2 s")


async def test_who_types_a_key_is_not_disturbed(visit: Visit) -> None:
    async def prepare(page: Page) -> None:
        await page.clock.install()
        await answering("/v1/tenants", **problem(401, "this needs an API key"))(page)

    page = await visit(prepare=prepare, failing=True)
    await page.get_by_label("API key").fill("sl_half")
    await page.get_by_role("button", name="Sign in").focus()
    await page.clock.fast_forward(60_000)
    await expect(page.get_by_label("API key")).to_have_value("sl_half")


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(scratch: Path) -> AsyncIterator[Server]:
    with Server(scratch / "guarded-page", STREAMLENS_AUTH="keys") as server:
        yield server.start()


async def test_with_keys_one_signs_in_and_out(visit: Visit, guarded: Server) -> None:
    made = guarded.command("keys", "create", "--tenant", "acme", "--scope", "read", "--scope", "ingest")
    guarded.key = made.stdout.strip()
    until(lambda: guarded.get("/v1/tenants")[0] == 200, "the key works")
    call = {"request_id": "r-1", "route": "chat", "model": "gpt-4o", "timestamp": int(time.time() * 1000)}
    assert guarded.post("/v1/llm/call", {**call, "latency_ms": 12})[0] == 202
    page = await visit("view=breakdown", invented=False, failing=True, url=guarded.url)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("signed out")
    await page.get_by_label("API key").fill("sl_wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("there is no such API key")
    await page.get_by_label("API key").fill(guarded.key)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("row", name=re.compile("chat"))).to_be_visible()
    assert guarded.key not in page.url
    assert await page.evaluate("[localStorage.length, document.cookie, Object.keys(sessionStorage).length]") == [
        0,
        "",
        1,
    ]
    await page.reload()
    await expect(page.get_by_role("row", name=re.compile("chat"))).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await expect(page.get_by_role("row", name=re.compile("chat"))).to_have_count(0)
