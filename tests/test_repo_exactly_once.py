"""The tables of `docs/exactly-once.md` against the rules in the tests: each safeguard, and what breaks without it."""

import re
from pathlib import Path

import pytest

import test_checkpoint_rules
import test_checkpoint_sinks
import test_checkpoint_snapshot_rules

PAGE = (Path(__file__).parents[1] / "docs" / "exactly-once.md").read_text("utf-8")
MODULES = (test_checkpoint_rules, test_checkpoint_sinks, test_checkpoint_snapshot_rules)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_table_has_every_rule_and_no_other(module: object) -> None:
    section = PAGE.split(f"`tests/{module.__name__}.py`")[1].split("\n##")[0]
    shown = re.findall(r"(?m)^\| ([a-z].*?) \| (.*?) \|$", section)
    pairs = [(scenario.__name__, by.__name__) for scenario, by, _ in module.RULES.breaks]
    rules = {(words(scenario), words(by)) for scenario, by in pairs}
    assert sorted(shown) == sorted(rules)


def words(name: str) -> str:
    return name.replace("_", " ")
