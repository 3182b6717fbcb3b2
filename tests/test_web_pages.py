"""The page at `/`: whole, from this host alone, small, and cheap to ask for again. What it does: tests/browser."""

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from web_server import Site, serving

STATIC = Path(__file__).parents[1] / "web/static"
FILES = sorted(path.name for path in STATIC.iterdir())
OURS = [name for name in FILES if not name.startswith("uplot-")]
FIRST_LOAD_BYTES = 150_000


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
        assert link.startswith(("/", "#")), link
        if link.startswith("/static/"):
            assert (await site.http.get(link)).status == 200, link


@pytest.mark.parametrize("name", [name for name in OURS if name.endswith(".js")])
def test_modules_import_what_exists(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    for names, module in re.findall(r'(?m)^import \{ ([^}]+) \} from "\./([^"]+)";', text):
        exported = set(
            re.findall(
                r"(?m)^export (?:async )?(?:const|function\*?|class) (\w+)", (STATIC / module).read_text("utf-8")
            )
        )
        assert set(names.split(", ")) <= exported, module


@pytest.mark.parametrize("name", OURS)
def test_nothing_needs_more_than_the_policy_allows(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "@import"):
        assert word not in text, word
    if name.endswith(".html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    elif name.endswith(".js"):
        assert not re.search(r"\bstyle:|\"style\"", text)


async def test_the_first_load_is_small(site: Site) -> None:
    sizes = {}
    for path in ("/", *(f"/static/{name}" for name in FILES if not name.endswith(".txt"))):
        answer = await site.http.get(path, headers={"Accept-Encoding": "gzip"})
        sizes[path] = int(answer.headers["Content-Length"])
    assert sum(sizes.values()) < FIRST_LOAD_BYTES, sizes


def test_the_chart_library_has_its_version_and_licence() -> None:
    (library,) = (name for name in FILES if name.startswith("uplot-") and name.endswith(".js"))
    version = library.removeprefix("uplot-").removesuffix(".min.js")
    assert f"v{version}" in (STATIC / library).read_text("utf-8")[:80]
    assert "MIT" in (STATIC / f"uplot-{version}.LICENSE.txt").read_text("utf-8")


ENCODINGS = [
    ("gzip, deflate, br", "gzip"),
    ("br;q=1.0, GZIP;q=0.8", "gzip"),
    ("gzip;q=0", None),
    ("gzip; q=0.000", None),
    ("identity", None),
    ("", None),
]


@pytest.mark.parametrize(("accepted", "encoding"), ENCODINGS)
async def test_files_are_compressed_for_those_who_take_it(site: Site, accepted: str, encoding: str | None) -> None:
    path = "/static/page.js"
    answer = await site.http.get(path, headers={"Accept-Encoding": accepted}, auto_decompress=False)
    body = await answer.read()
    assert answer.headers.get("Content-Encoding") == encoding
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert (gzip.decompress(body) if encoding else body) == (STATIC / "page.js").read_bytes()


@pytest.mark.parametrize(
    ("name", "content_type"), [("page.js", "text/javascript"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")]
)
async def test_files_have_their_type_and_an_entity_tag(site: Site, name: str, content_type: str) -> None:
    tags = set()
    for encoding in ("gzip", "identity"):
        headers = {"Accept-Encoding": encoding}
        answer = await site.http.get(f"/static/{name}", headers=headers)
        assert (answer.status, answer.content_type) == (200, content_type)
        tags.add(answer.headers["ETag"])
        again = await site.http.get(f"/static/{name}", headers={**headers, "If-None-Match": answer.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
    assert len(tags) == 2


TEXTS = [
    *((text, ground) for text in ("ink", "dim", "accent", "good", "warn", "bad") for ground in ("ground", "surface")),
    *((text, "raised") for text in ("ink", "dim", "accent")),
    ("accent", "accent-soft"), ("bad", "bad-soft"), ("ink", "bad-soft"), ("warn", "warn-soft"), ("surface", "accent"),
]  # fmt: skip


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_text_stands_out_from_its_ground(theme: int, text: str, ground: str) -> None:
    """By the contrast ratio of WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    rules = (STATIC / "tokens.css").read_text("utf-8").split(":root")[1 + theme]
    colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})(?![0-9a-f])", rules))
    lighter, darker = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
