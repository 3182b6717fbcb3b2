"""The documentation against the code: every setting and route is written down, and every link leads somewhere."""

import importlib
import re
from pathlib import Path

import pytest

from streamlens.app import MODULES, app
from streamlens.events import KINDS
from streamlens.settings import PREFIX, Settings, _variable

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TEXTS = [*PAGES, *(ROOT / name for name in ("Makefile", ".ci/run", ".env.example", "Dockerfile", "docker-compose.yml"))]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:home|root|tmp|Users|work)/")


def example() -> dict[str, str]:
    """Names and values of `.env.example`."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    assert len({name for name, _, _ in pairs}) == len(pairs), "a setting is there twice"
    return {name: value for name, _, value in pairs}


def test_the_example_has_every_setting_and_no_other() -> None:
    assert sorted(example()) == sorted(map(_variable, Settings.__struct_fields__))


@pytest.mark.parametrize("field", Settings.__struct_fields__)
def test_the_example_shows_the_default(field: str) -> None:
    name, default = _variable(field), getattr(Settings(), field)
    value = example()[name]
    assert (value == "") == (default in ("", None))
    assert getattr(Settings.load({name: value}), field) == default


def test_every_setting_that_is_spoken_of_exists() -> None:
    known = set(map(_variable, Settings.__struct_fields__))
    spoken = {name for page in TEXTS for name in re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", page.read_text("utf-8"))}
    assert spoken - known == set()


def routes() -> set[str]:
    for module in MODULES:
        if module.startswith("web."):
            importlib.import_module(module)
    views = app.web.views.items()
    return {f"{method} {path}" for path, view in views for method in view.get_methods() - {"HEAD"}}


def test_the_api_page_has_every_route_and_no_other() -> None:
    text = (ROOT / "docs/api.md").read_text("utf-8")
    assert set(re.findall(r"`((?:GET|POST|PUT|DELETE|PATCH) /[^\s?`]*)", text)) == routes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_page_has_every_field_of_an_event(kind: str) -> None:
    text = (ROOT / "docs/api.md").read_text("utf-8")
    assert {field for field in KINDS[kind].__struct_fields__ if f"`{field}`" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target) if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop().resolve()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            ahead += [page.parent / link.partition("#")[0] for link in LINK.findall(page.read_text("utf-8"))]
    assert {str(page.relative_to(ROOT)) for page in PAGES if page.resolve() not in reached} == set()


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:3]) for path in sorted((ROOT / "docs/decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_speaks_of_one_machine(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert [line for line in lines if MACHINE_PATH.search(line)] == []
