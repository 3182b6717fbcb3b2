"""The page at `/`: whole, from this host alone, and cheap to ask for again."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from web_server import Site, serving


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


async def test_everything_the_page_refers_to_is_there_and_ours(site: Site) -> None:
    answer = await site.http.get("/")
    page = await answer.text()
    assert (answer.status, answer.content_type, answer.charset) == (200, "text/html", "utf-8")
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(links) > 8
    for link in links:
        assert link.startswith("/"), link
        if not link.startswith("/v1/"):
            assert (await site.http.get(link)).status == 200, link


async def test_nothing_needs_more_than_the_policy_allows(site: Site) -> None:
    page = await (await site.http.get("/")).text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for name in ("page.js", "page.css", "icon.svg"):
        text = await (await site.http.get(f"/static/{name}")).text()
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), name
        assert "innerHTML" not in text and "eval(" not in text, name


@pytest.mark.parametrize(
    ("name", "content_type"), [("page.js", "text/javascript"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")]
)
async def test_files_have_their_type_and_an_entity_tag(site: Site, name: str, content_type: str) -> None:
    answer = await site.http.get(f"/static/{name}")
    assert (answer.status, answer.content_type) == (200, content_type)
    again = await site.http.get(f"/static/{name}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
