"""Which calls and evaluations count under a variant of an experiment, through both stages."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import START, Pipeline
from streamlens.moments import Moments
from tables import caps as caps_module
from tables.caps import OTHER

A, B = ({"name": "to/ne", "variant": variant} for variant in "AB")


def counted(pipeline: Pipeline) -> dict[tuple[str, str], tuple[int, dict[str, int]]]:
    """By experiment and variant: calls, and evaluations by name."""
    return {
        key[1:3]: (row.sums.errors.count, {name: scores.count for name, scores in row.sums.scores.items()})
        for key, row in pipeline.rows.experiments.items()
    }


@pytest.mark.parametrize("evaluation_first", [False, True])
async def test_calls_and_evaluations_meet_in_any_order(tmp_path: Path, evaluation_first: bool) -> None:
    pipeline = await Pipeline(tmp_path).open()
    events: list[tuple[str, dict[str, Any]]] = [
        ("call", {"experiment": A, "latency_ms": 3, "ttft_ms": 1, "cost_usd": 0.5, "completion_tokens": 7}),
        ("evaluation", {"experiment": A, "name": "truth", "score": -0.25}),
    ]
    for kind, fields in reversed(events) if evaluation_first else events:
        await pipeline.send(kind, 1, **fields)
    await pipeline.settle()
    ((key, row),) = pipeline.rows.experiments.items()
    assert key == ("acme", "to/ne", "A", START)
    assert row.sums.latency_us == Moments(1, 3_000, 9_000_000)
    assert row.sums.ttft_us == Moments(1, 1_000, 1_000_000)
    assert row.sums.cost_pico == Moments(1, 5 * 10**11, 25 * 10**22)
    assert (row.sums.tokens, row.sums.errors) == (Moments(1, 7, 49), Moments(1, 0, 0))
    assert row.sums.scores == {"truth": Moments(1, -250_000, 62_500_000_000)}
    await pipeline.close()


CASES: list[tuple[str, list[tuple[str, str, dict[str, Any]]], dict[Any, Any]]] = [
    ("a call without an experiment", [("call", "r1", {})], {}),
    ("a label is no score", [("evaluation", "r1", {"name": "n", "label": "bad", "experiment": A})], {}),
    ("an evaluation that names none",
     [("call", "r1", {"experiment": A}), ("evaluation", "r1", {"name": "n", "score": 1})], {("to/ne", "A"): (1, {})}),
    ("a repeated evaluation", [("evaluation", "r1", {"name": "n", "score": 1, "experiment": A})] * 2,
     {("to/ne", "A"): (0, {"n": 1})}),
    ("a request's experiment counts its response",
     [("request", "r1", {"experiment": B}), ("response", "r1", {"error": "it broke"})], {("to/ne", "B"): (1, {})}),
]  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_what_counts(tmp_path: Path, events: list[Any], expected: dict[Any, Any]) -> None:
    pipeline = await Pipeline(tmp_path).open()
    for kind, request_id, fields in events:
        await pipeline.send(kind, 1, request_id, **fields)
    await pipeline.settle()
    assert counted(pipeline) == expected
    await pipeline.close()


@pytest.mark.parametrize("kept", [("experiment", "region"), ()])
async def test_without_the_facet_variant_there_are_no_experiments(tmp_path: Path, kept: tuple[str, ...]) -> None:
    pipeline = await Pipeline(tmp_path, facets=kept).open()
    await pipeline.send("call", 1, experiment=A)
    await pipeline.send("evaluation", 1, name="truth", score=1, experiment=A)
    await pipeline.settle()
    assert pipeline.rows.experiments == {}
    await pipeline.close()


async def test_variants_beyond_what_a_tenant_may_have_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caps_module, "MAX_VALUES", 2)
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    for number in range(6):
        experiment = {"name": "tone", "variant": f"v{number % 3}"}
        kind, fields = ("call", {}) if number < 3 else ("evaluation", {"name": "truth", "score": 1})
        await pipeline.send(kind, 1, f"r{number}", experiment=experiment, **fields)
        await pipeline.settle()  # which names have a place stays decided, whatever is killed
        await pipeline.close()
        await pipeline.open()
    await pipeline.settle()
    both = (1, {"truth": 1})
    assert counted(pipeline) == {("tone", "v0"): both, ("tone", "v1"): both, (OTHER, OTHER): both}
    tallies = {key[2:4]: row.tally.count for key, row in pipeline.rows.tallies.items() if key[1] == "warning"}
    assert tallies["cardinality", "variant"] == 2
    await pipeline.close()


async def test_evaluations_alone_hold_the_places_of_their_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caps_module, "MAX_VALUES", 1)
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    for number, variant in enumerate("AB"):
        experiment = {"name": "tone", "variant": variant}
        await pipeline.send("evaluation", 1, f"r{number}", name="truth", score=1, experiment=experiment)
        await pipeline.settle()
        await pipeline.close()
        await pipeline.open()
    assert counted(pipeline).keys() == {("tone", "A"), (OTHER, OTHER)}
    await pipeline.close()
