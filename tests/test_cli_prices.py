"""`streamlens prices`: what it prints for the catalogue, for a prices file, and where there is no price."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streamlens.catalogue import VERSION
from streamlens.cli import main
from streamlens.overrides import load

FILE: dict[str, Any] = {
    "gpt-4o": {"input_usd_per_mtok": "2", "output_usd_per_mtok": "10", "cached_input_usd_per_mtok": "1.25"},
    "gemini-2.5-pro": {
        "input_usd_per_mtok": "1.25",
        "output_usd_per_mtok": "10",
        "cached_input_usd_per_mtok": "0.125",
        "tiers": [{"above": 300_000, "input_usd_per_mtok": "2.5", "output_usd_per_mtok": "15"}],
    },
    "our-70b": [
        {"input_usd_per_mtok": "0.4", "output_usd_per_mtok": "0.4", "until": "2026-07-01"},
        {"input_usd_per_mtok": "0.3", "output_usd_per_mtok": "0.35", "from": "2026-07-01", "until": "2027-01-01"},
    ],
    "aliases": {"prod-chat": "gpt-4o-mini", "old": "gone"},
    "tenants": {
        "acme": {
            "gpt-4o": {"input_usd_per_mtok": "2.5", "output_usd_per_mtok": "10", "cached_input_usd_per_mtok": "1.25"},
            "gpt-4o-mini": [{"input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0.3", "from": "2026-08-01"}],
        }
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(FILE))
    return path


def run(*arguments: str, file: Path | None = None) -> tuple[int, list[str]]:
    """Exit code and lines, runs of blanks as one."""
    env = {"STREAMLENS_PRICES_FILE": str(file or "")}
    result = CliRunner().invoke(main, ["prices", *arguments], env=env)
    return result.exit_code, [" ".join(line.split()) for line in result.output.splitlines()]


def test_what_the_catalogue_says() -> None:
    assert run("show", "GPT-4o", "--provider", "azure.ai.openai") == (
        0,
        [
            f"azure/gpt-4o, {VERSION}",
            "input 2.5",
            "cached input 1.25",
            "cache write 2.5 no price of its own: partly priced",
            "output 10",
            "reasoning 10",
        ],
    )


def test_tiers_are_shown_by_the_input_size_above_which_they_hold() -> None:
    code, lines = run("show", "gemini-2.5-pro")
    assert code == 0
    assert {"input 1.25", "input above 200,000 2.5", "output above 200,000 15"} <= set(lines)


def test_dates_are_shown_and_what_holds_otherwise(file: Path) -> None:
    code, lines = run("show", "our-70b", file=file)
    version = load(file).version
    assert code == 0
    assert [line for line in lines if "overrides" in line] == [
        f"{version}, until 2026-07-01",
        f"{version}, from 2026-07-01 until 2027-01-01",
    ]
    code, lines = run("show", "prod-chat", "--tenant", "acme", file=file)
    assert [line for line in lines if "," in line] == [
        f"overrides of acme, {version}, from 2026-08-01",
        f"openai/gpt-4o-mini, {VERSION}, otherwise",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "acme-7b"], "no price is known for acme-7b"),
        (["show", "gpt-4o", "--provider", "our-own-gpus"], "no price is known for gpt-4o at our-own-gpus"),
    ],
)
def test_an_unknown_price_is_exit_code_1(arguments: list[str], words: str) -> None:
    assert run(*arguments) == (1, [f"Error: {words}"])


def test_what_a_file_changes(file: Path) -> None:
    code, lines = run("diff", str(file))
    assert code == 0
    assert lines == [
        f"{load(file).version} against {VERSION}, USD per million tokens",
        "gpt-4o",
        "input: 2.5 -> 2",
        "cache write: 2.5 -> 2",
        "gemini-2.5-pro",
        "input above 200,000: 2.5 -> 1.25",
        "cached input above 200,000: 0.25 -> 0.125",
        "cache write above 200,000: 2.5 -> 1.25",
        "output above 200,000: 15 -> 10",
        "reasoning above 200,000: 15 -> 10",
        "cached input above 300,000: 0.25 -> 2.5",
        "our-70b until 2026-07-01: not in the catalogue",
        "input: - -> 0.4",
        "cached input: - -> 0.4",
        "cache write: - -> 0.4",
        "output: - -> 0.4",
        "reasoning: - -> 0.4",
        "our-70b from 2026-07-01 until 2027-01-01: not in the catalogue",
        "input: - -> 0.3",
        "cached input: - -> 0.3",
        "cache write: - -> 0.3",
        "output: - -> 0.35",
        "reasoning: - -> 0.35",
        "prod-chat: alias of gpt-4o-mini, openai/gpt-4o-mini",
        "old: alias of gone, which has no price",
        "gpt-4o of acme",
        "no change",
        "gpt-4o-mini of acme from 2026-08-01",
        "input: 0.15 -> 0.1",
        "cached input: 0.075 -> 0.1",
        "cache write: 0.15 -> 0.1",
        "output: 0.6 -> 0.3",
        "reasoning: 0.6 -> 0.3",
    ]


def test_a_file_that_is_wrong_is_exit_code_1_and_a_missing_one_2(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"m": {}}')
    code, (line,) = run("diff", str(tmp_path / "bad.json"))
    assert (code, "bad.json: m: " in line) == (1, True)
    assert run("diff", str(tmp_path / "nowhere.json"))[0] == 2


@pytest.mark.parametrize("arguments", [["show"], ["diff"]], ids=str)
def test_help_has_an_example(arguments: list[str]) -> None:
    code, lines = run(*arguments, "--help")
    assert code == 0
    assert f"Example: streamlens prices {arguments[0]}" in " ".join(lines)
