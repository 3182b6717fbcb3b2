"""One StreamLens and one Chromium for all browser tests, and pages that tell what went wrong in them.

Chromium is the system's (Debian's package `chromium`); CHROMIUM names another one.
"""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from browser import invented as invented_hour
from process_server import Server

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="session")
def server(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "browser") as server:
        yield server.start()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


class Visit(Protocol):
    """Opens the page with a query in a context of its own; `answers` is what the invented hour is laid over with."""

    def __call__(
        self, query: str = "", *, invented: bool = True, prepare: Callable[[Page], Awaitable[Any]] | None = None,
        failing: bool = False, url: str = "", **context: Any,
    ) -> Awaitable[Page]: ...  # fmt: skip


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, server: Server) -> AsyncIterator[Visit]:
    """Pages of which at the end each has asked this host alone, and said nothing on its console. Those that are
    `failing` may say that an answer was an error; nothing else."""
    contexts, faults = [], []

    async def open_page(
        query: str = "", *, invented: bool = True, prepare: Callable[[Page], Awaitable[Any]] | None = None,
        failing: bool = False, url: str = "", **options: Any,
    ) -> Page:  # fmt: skip
        base = url or server.url
        context = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: None if failing and "Failed to load" in said.text else faults.append(said.text))
        page.on(
            "request", lambda asked: urlsplit(asked.url).netloc == urlsplit(base).netloc or faults.append(asked.url)
        )
        if invented:
            await invented_hour.install(page)
        if prepare:
            await prepare(page)
        await page.goto(f"{base}/{'?' + query if query else ''}")
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert faults == []
