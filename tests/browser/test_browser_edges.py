"""What comes rarely: strange names, other time zones, more rows than an answer has, spans of long ago."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Page, Request, Route, expect

from browser import invented
from browser.conftest import Visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

STREAM = """
  const real = window.fetch;
  const encoder = new TextEncoder();
  const headers = { "Content-Type": "text/event-stream" };
  const start = (controller) => void (window.tell = (text) => controller.enqueue(encoder.encode(text)));
  window.fetch = async (url, options) =>
    String(url).startsWith("/v1/live") ? new Response(new ReadableStream({ start }), { headers }) : real(url, options);
  window.fillings = [];
  const fill = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    fillings.push(text);
    return fill.call(this, text, ...rest);
  };
"""
"""A stream that says what `tell` is called with, and `fillings`: all texts that charts have drawn."""


async def watched(page: Page) -> None:
    await page.add_init_script(STREAM)


def laid_over(path: str, **fields: Any) -> Any:
    """The invented answer of `path`, with other `fields`."""

    async def prepare(page: Page) -> None:
        async def serve(route: Route) -> None:
            asked = dict(re.findall(r"[?&](\w+)=([^&]*)", route.request.url))
            await route.fulfill(json={**invented.answer(path, asked), **fields})

        await page.route(re.compile(re.escape(path) + r"\?"), serve)

    return prepare


async def test_the_stream_may_name_anything(visit: Visit) -> None:
    page = await visit()
    events = await page.evaluate(
        r"""async () => {
          const { events } = await import("/static/live.js");
          const found = [];
          const text = 'event: rows\ndata: {"route":"a\u2028b\u2029c: d"}\n\n: beat\nretry\nid: 7\n\n';
          for await (const event of events(new Response(text).body)) found.push(event);
          return found;
        }"""
    )
    assert events == [
        {"event": "rows", "data": '{"route":"a\u2028b\u2029c: d"}'},
        {"retry": "", "id": "7"},
    ]


async def test_rows_do_not_end_what_is_stale(visit: Visit) -> None:
    page = await visit("view=pipeline", prepare=watched)
    status = page.get_by_role("status")
    await expect(status).to_have_text("live")
    for event, text in (
        ("stale", "the server has no new numbers now"),
        ("minute", "the server has no new numbers now"),
        ("fresh", "live"),
        ("stale", "the server has no new numbers now"),
        ("hello", "live"),
        ("minute", "live"),
    ):
        async with page.expect_response(re.compile("/v1/ledger")):  # each is a reason to look
            await page.evaluate("name => tell(`event: ${name}\\ndata: {}\\n\\n`)", event)
        await expect(status).to_have_text(text)


async def test_a_day_of_cohorts_is_that_of_utc_wherever_one_is(visit: Visit) -> None:
    cohort = {**invented.cohort(3), "cohort_date": "2026-11-20"}
    page = await visit(
        "view=users", prepare=laid_over("/v1/retention", cohorts=[cohort]), timezone_id="America/Los_Angeles"
    )
    await expect(page.get_by_role("region", name="Retention").locator("tbody th").first).to_have_text("20 Nov")


@pytest.mark.parametrize("zone", ["America/Bogota", "Asia/Kolkata", "UTC"])
async def test_midnight_at_an_axis_is_a_day(visit: Visit, zone: str) -> None:
    page = await visit("range=7d", prepare=watched, timezone_id=zone)
    await expect(page.locator(".plot canvas").first).to_be_visible()
    await page.wait_for_function("fillings.some((text) => /\\d/.test(text))")
    drawn = await page.evaluate("fillings")
    assert any(re.fullmatch(r"\d+ [A-Z][a-z]+", text) for text in drawn)
    assert "00:00" not in drawn


CUT = re.compile("Only .* rows are shown")


@pytest.mark.parametrize(
    ("view", "panel", "path", "fields"),
    [
        ("overview", "What needs attention", "/v1/metrics", {"next": "b2xk"}),
        ("overview", "Cost by model", "/v1/metrics", {"next": "b2xk"}),
        ("overview", "Busiest routes", "/v1/metrics", {"next": "b2xk"}),
        ("overview", "What needs attention", "/v1/errors/top", {"total": 100_000}),
        ("cost", "By model", "/v1/metrics", {"next": "b2xk"}),
        ("breakdown", "By route", "/v1/metrics", {"next": "b2xk"}),
        ("users", "Funnel", "/v1/metrics", {"next": "b2xk"}),
        ("errors", "By route, model and type", "/v1/errors/top", {"total": 100_000}),
    ],
)
async def test_sums_of_a_part_say_so(visit: Visit, view: str, panel: str, path: str, fields: dict[str, Any]) -> None:
    asked: list[str] = []

    async def prepare(page: Page) -> None:
        page.on("request", lambda request: asked.append(request.url) if f"{path}?" in request.url else None)
        await laid_over(path, **fields)(page)

    page = await visit(f"view={view}", prepare=prepare)
    await expect(page.get_by_role("region", name=panel, exact=True).get_by_text(CUT)).to_be_visible()
    assert asked and all("limit=10000" in url for url in asked)


async def test_no_error_of_a_route_among_some_is_not_no_error(visit: Visit) -> None:
    page = await visit("view=errors&route=elsewhere", prepare=laid_over("/v1/errors/top", total=100_000))
    panel = page.get_by_role("region", name="By route, model and type", exact=True)
    await expect(panel.get_by_text(CUT)).to_be_visible()
    await expect(panel.get_by_text("No errors")).to_have_count(0)


NOTHING: dict[str, dict[str, Any]] = {
    "/v1/metrics": {"metrics": [], "count": 0},
    "/v1/errors/top": {"errors": [], "count": 0, "total": 0},
    "/v1/dlq": {"letters": [], "count": 0},
}


@pytest.mark.parametrize("away", [None, *NOTHING])
async def test_nothing_needs_attention_only_if_all_was_answered(visit: Visit, away: str | None) -> None:
    async def prepare(page: Page) -> None:
        for path, fields in NOTHING.items():
            await laid_over(path, **fields)(page)
        if away:
            await page.route(re.compile(re.escape(away) + r"\?"), lambda route: route.fulfill(status=500, json={}))

    page = await visit(prepare=prepare, failing=True)
    panel = page.get_by_role("region", name="What needs attention")
    await expect(panel.get_by_role("heading", name="Not known" if away else "Nothing", exact=True)).to_be_visible()


@pytest.mark.parametrize(("days", "step"), [(6.9, "1m"), (7.1, "1h"), (20, "1h")])
async def test_of_long_ago_there_are_hours(visit: Visit, days: float, step: str) -> None:
    asked: list[Request] = []
    begin = datetime.now(UTC) - timedelta(days=days)
    span = f"from={invented.rfc(begin)}&to={invented.rfc(begin + timedelta(hours=1))}".replace("+", "%2B")

    async def prepare(page: Page) -> None:
        page.on("request", lambda request: asked.append(request) if "/timeseries?" in request.url else None)

    page = await visit(f"view=cost&{span}", prepare=prepare)
    await expect(page.get_by_role("heading", name="Cost over time")).to_be_visible()
    assert f"step={step}&" in asked[0].url + "&"


async def test_a_time_is_rounded_before_it_is_divided(visit: Visit) -> None:
    page = await visit()
    shown = {
        0.25: "250 ms", 0.9997: "1.00 s", 9.999: "10.0 s", 59.97: "1 min 0 s", 60: "1 min 0 s", 119.6: "2 min 0 s",
        3599.7: "1 h 0 min", 5400: "1 h 30 min", 7199: "2 h 0 min", 172_799: "2 d", 260_000: "3 d",
    }  # fmt: skip
    found = await page.evaluate(
        """async (values) => {
          const { seconds } = await import("/static/format.js");
          return values.map(seconds);
        }""",
        list(shown),
    )
    assert [text.replace("\u00a0", " ") for text in found] == list(shown.values())


@pytest.mark.parametrize("name", ["constructor", "toString", "__proto__"])
async def test_names_that_every_object_has_are_none_of_ours(visit: Visit, name: str) -> None:
    page = await visit(f"view={name}&range={name}")
    await expect(page.get_by_role("heading", name="What needs attention")).to_be_visible()
    await expect(page.get_by_role("link", name="1h", exact=True)).to_have_attribute("aria-current", "true")
    page = await visit(f"view=breakdown&by={name}&measure={name}")
    await expect(page.get_by_role("heading", name="By route")).to_be_visible()


async def test_who_signs_out_leaves_no_numbers(visit: Visit) -> None:
    async def prepare(page: Page) -> None:
        await page.add_init_script("sessionStorage.setItem('streamlens-key', 'sl_x')")

    page = await visit("view=breakdown&by=model", prepare=prepare, failing=True)
    await expect(page.get_by_role("region", name="Calls by Model")).to_be_visible()
    await page.route(re.compile("/v1/"), lambda route: None)  # no answer comes
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("region", name="Calls by Model")).to_have_count(0, timeout=2_000)
