"""The driver: every error is a problem, headers are safe, counts have bounded labels, and the end comes quickly."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streamlens.app import app
from web.driver import Web
from web_server import Site, counted, serving

SECRET = "secret detail of the inside"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


ERRORS = [
    ("GET", "/nothing", 404, None),
    ("GET", "/table", 404, None),
    ("GET", "/graph", 404, None),
    ("GET", "/router", 404, None),
    ("GET", "/v1/llm", 404, None),
    ("GET", "/health/", 404, None),
    ("GET", "/static/../pages.py", 404, None),
    ("GET", "/static/%2e%2e%2fpages.py", 404, None),
    ("GET", "/static/none.js", 404, None),
    ("GET", "/v1/llm/call", 405, "POST"),
    ("PUT", "/v1/llm/events", 405, "POST"),
    ("HEAD", "/v1/llm/events", 405, "POST"),
    ("POST", "/v1/ledger", 405, "GET,HEAD"),
    ("DELETE", "/", 405, "GET,HEAD"),
]


@pytest.mark.parametrize(("method", "path", "status", "allow"), ERRORS)
async def test_what_no_view_takes_is_a_problem(
    site: Site, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = await site.http.request(method, path)

    assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert answer.headers.get("Allow") == allow
    if method != "HEAD":
        problem = await answer.json()
        assert problem.keys() == {"title", "status", "detail"}
        assert problem["status"] == status


def test_faust_serves_no_pages_of_its_own() -> None:
    assert Web(app)._enabled_blueprints() == []


@pytest.mark.parametrize(("path", "allow"), [("/v1/llm/call", "OPTIONS, POST"), ("/health", "GET, HEAD, OPTIONS")])
async def test_options_tells_the_methods(site: Site, path: str, allow: str) -> None:
    answer = await site.http.options(path)
    assert (answer.status, answer.headers["Allow"], await answer.read()) == (204, allow, b"")


async def test_head_answers_like_get_without_a_body(site: Site) -> None:
    for path in ("/", "/health", "/metrics", "/static/page.js"):
        answer = await site.http.head(path)
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/health", "/nothing", "/v1/llm/call", "/metrics"])
async def test_every_answer_has_safe_headers(site: Site, path: str) -> None:
    headers = (await site.http.get(path)).headers
    assert headers["Server"] == "StreamLens"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "sent",
    [b"GARBAGE\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"],
)
async def test_what_is_not_http_is_a_problem_too(site: Site, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(sent)
    answer = await reader.read()
    assert b" 400 " in answer.splitlines()[0]
    assert b"application/problem+json" in answer
    assert b"aiohttp" not in answer
    writer.close()


async def test_a_defect_is_logged_once_and_tells_nothing(tmp_path: Path) -> None:
    class Defective:
        async def append(self, batches: object) -> None:
            raise RuntimeError(SECRET)

    body = b'{"type":"response","request_id":"r","timestamp":1767225600000}'
    async with serving(tmp_path, log=Defective()) as site:
        with capture_logs() as logged:
            answer = await site.http.post("/v1/llm/response", data=body)
        assert (answer.status, answer.content_type) == (500, "application/problem+json")
        assert SECRET not in await answer.text()
    assert [(entry["event"], entry["path"], entry["exc_info"]) for entry in logged] == [
        ("web.failed", "/v1/llm/response", True)
    ]


async def test_requests_are_counted_by_pattern_and_unknown_paths_together(site: Site) -> None:
    asked = [("/static/page.js", "/static/{name}", "200"), ("/a", "other", "404"), ("/b/c?d", "other", "404")]
    before = [counted("streamlens_http_requests_total", route=route, status=status) for _, route, status in asked]

    for path, _, _ in asked:
        await site.http.get(path)

    after = [counted("streamlens_http_requests_total", route=route, status=status) for _, route, status in asked]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 2, 2]
    assert counted("streamlens_http_request_seconds_count", route="/static/{name}") >= 1


async def test_connections_that_stay_open_do_not_hold_up_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        _, idle = await asyncio.open_connection("127.0.0.1", site.port)
        _, sending = await asyncio.open_connection("127.0.0.1", site.port)
        sending.write(b"POST /v1/llm/call HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        while not (await site.http.get("/health")).ok:
            pass
        start = time.monotonic()
    assert time.monotonic() - start < 4
    idle.close()
    sending.close()
