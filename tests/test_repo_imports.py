"""The shape of the code: imports go one way, files stay short, and the top-level names belong to nobody else."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "streamlens": {"streamlens"},
    "tables": {"tables", "streamlens"},
    "agents": {"agents", "tables", "streamlens"},
    "web": {"web", "tables", "streamlens"},
}
"""Our packages, and which of ours each may import. `streamlens/app.py` names agents and web as strings only."""
MOST_LINES = 300
CLIENT = ROOT / "streamlens/client"
"""A folder that applications may copy, so it names itself by relative imports only."""


def sources(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no modules"
    return found


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level package of each import, those inside functions and type-checking blocks too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not (node.level == 1 and path.parent == CLIENT):
            # A relative import stays in its package or leaves all of ours; absolute ones say more, so there are none
            # but in the client.
            yield node.lineno, "." if node.level else (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    barred = (MAY_IMPORT.keys() | {"."}) - MAY_IMPORT[package]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(package)
        for line, name in imported(path)
        if name in barred
    ]
    assert wrong == []


def test_the_client_needs_the_standard_library_alone() -> None:
    needed = {name for path in sources("streamlens/client") for _, name in imported(path)}
    assert needed - sys.stdlib_module_names == set()


def test_files_stay_short() -> None:
    lengths = {p.relative_to(ROOT): len(p.read_text("utf-8").splitlines()) for x in MAY_IMPORT for p in sources(x)}
    assert {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_tests_are_no_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_other_distribution_has_our_packages() -> None:
    owners = packages_distributions()
    assert {package: set(owners.get(package, [])) for package in MAY_IMPORT} == {
        package: {"streamlens"} for package in MAY_IMPORT
    }
