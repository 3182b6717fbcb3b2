"""What is counted besides calls, event by event: the ledger, the caps, the rooms of kept records."""

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import MINUTE, SECOND, START, Pipeline
from streamlens.metrics import SERIES_OVERFLOW
from tables.caps import OTHER
from tables.kept import KEPT

LOG = {"level": "ERROR", "message": "it broke", "service": "api"}


def scored(request_id: str = "r1", **fields: Any) -> tuple[str, str, dict[str, Any]]:
    return "evaluation", request_id, {"name": "truth", "score": 1} | fields


CASES = [
    ("an evaluation is one event", [scored()], {"received": 1, "aggregated": 1}, 1),
    (
        "a repeated one is a duplicate",
        [scored(), scored(score=0)],
        {"received": 2, "aggregated": 1, "duplicate": 1},
        1,
    ),
    (
        "other names and evaluators are others",
        [
            scored(),
            scored(name="tone"),
            scored(evaluator="people"),
            scored(evaluator="people", name="tone"),
        ],
        {"received": 4, "aggregated": 4},
        4,
    ),
    (
        "an evaluation is not taken for its call",
        [scored(), ("call", "r1", {}), scored()],
        {"received": 3, "aggregated": 2, "duplicate": 1},
        1,
    ),
]


@pytest.mark.parametrize(("events", "ledger", "counted"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("killed", [False, True], ids=["", "a kill after each event"])
async def test_evaluations(
    tmp_path: Path, events: list[Any], ledger: dict[str, int], counted: int, killed: bool
) -> None:
    pipeline = await Pipeline(tmp_path).open()
    for kind, request_id, fields in events:
        await pipeline.send(kind, 1, request_id, **fields)
        if killed:
            await pipeline.consume(pipeline.join)
            await pipeline.join.tick()
            await pipeline.close()
            await pipeline.open()
    await pipeline.settle()
    assert pipeline.ledger() == {("acme", 0): ledger}
    assert sum(row.scores.count for row in pipeline.rows.evaluations.values()) == counted
    await pipeline.close()


async def test_lines_of_logs_and_metrics_count_once_by_their_bytes(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    for _ in range(2):
        await pipeline.send("log", 1, **LOG, request_id="r1")
        await pipeline.send(
            "metric", 1, name="cpu", value=0.5, unit="share", tags={"host": "a=b,c", "up": True, "x": None}
        )
    await pipeline.send("log", 1, **LOG | {"message": "it broke again", "request_id": "r1"})
    await pipeline.send("metric", 1, name="cpu", value=-2)
    await pipeline.settle()
    assert pipeline.ledger() == {("acme", 0): {"received": 6, "aggregated": 4, "duplicate": 2}}
    assert {key[1:4]: _counted(row) for key, row in pipeline.rows.tallies.items()} == {
        ("log", "api", "ERROR"): (2, 0, 0, 0),
        ("metric", "cpu", r"host=a\=b\,c,unit=share,up=true"): (1, 500_000, 500_000, 500_000),
        ("metric", "cpu", ""): (1, -2_000_000, -2_000_000, -2_000_000),
    }
    await pipeline.close()


def _counted(row: Any) -> tuple[int, ...]:
    return row.tally.count, row.tally.sum, row.tally.low, row.tally.high


async def test_late_and_bad_ones_are_booked_as_any_event(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.idle(60 + 3600 + 30)
    await pipeline.send("evaluation", 59, name="truth", score=1)
    await pipeline.send("log", 59, **LOG)
    await pipeline.send("metric", 59, name="cpu", value=1)
    await pipeline.send_raw("metric", b"{", "bad")
    await pipeline.settle()
    assert pipeline.ledger() == {("acme", 61): {"received": 3, "late": 3}, ("", 61): {"received": 1, "rejected": 1}}
    assert sorted(letter["topic"] for letter in pipeline.letters()) == [
        "llm.evaluations",
        "streamlens.applogs",
        "streamlens.sysmetrics",
        "streamlens.sysmetrics",
    ]
    await pipeline.close()


async def test_the_first_lines_of_a_minute_are_kept_and_loud_ones_have_their_own_room(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    pipeline.clock.at(65)
    for number in range(KEPT + 5):
        await pipeline.send("log", 1, level="info", message=f"quiet {number}", attributes={"n": number})
        if number == 3:  # what is kept stays decided
            await pipeline.consume(pipeline.join)
            await pipeline.join.tick()
            await pipeline.close()
            shutil.rmtree(tmp_path / "pending")
            await pipeline.open()
    await pipeline.send("log", 2, level="fatal", message="loud")
    await pipeline.send("log", 61, level="info", message="the next minute")
    await pipeline.settle()
    said = [(row.kind, orjson.loads(row.content)["message"]) for row in pipeline.rows.kept.values()]
    assert sorted(said) == sorted(
        [("log", f"quiet {number}") for number in range(KEPT)] + [("log.loud", "loud"), ("log", "the next minute")]
    )
    (loud,) = (row for row in pipeline.rows.kept.values() if row.kind == "log.loud")
    assert (loud.tenant_id, loud.at_us) == ("acme", START + 2_000_000)
    assert orjson.loads(loud.content) == {
        "level": "CRITICAL",
        "service": "unknown",
        "message": "loud",
        "request_id": "r1",
    }
    assert sum(row.tally.count for row in pipeline.rows.tallies.values()) == KEPT + 7, "all are counted"
    await pipeline.close()


async def test_rows_of_all_families_expire(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1, provider="openai", experiment={"name": "tone", "variant": "A"})
    await pipeline.send("evaluation", 1, name="truth", score=1)
    await pipeline.send("log", 1, **LOG)
    await pipeline.settle()
    facet, scored = (next(iter(rows.values())) for rows in (pipeline.rows.facets, pipeline.rows.evaluations))
    assert (facet.final, facet.revision, scored.final, scored.revision) == (False, 1, False, 1)
    for _ in range(3):
        await pipeline.idle(60 + 3600 + 30)
    facet, scored = (next(iter(rows.values())) for rows in (pipeline.rows.facets, pipeline.rows.evaluations))
    assert (facet.final, facet.revision, scored.final, scored.revision) == (True, 2, True, 2)
    for stage in (pipeline.join, pipeline.windows):
        state = stage.units[0].state
        assert [key for prefix in b"wfesrxm" for key, _ in state.scan(bytes([prefix]), bytes([prefix + 1]))] == []
    await pipeline.close()


JUNK = 10_000
LIMITS = {"route": 200, "model": 5, "series": 10}


async def test_ten_thousand_junk_models_keep_series_and_memory_flat_and_totals_right(tmp_path: Path) -> None:
    overflow = SERIES_OVERFLOW.labels("acme", "model")
    before = overflow._value.get()
    pipeline = await Pipeline(tmp_path, partitions=1, limits=LIMITS).open()
    for number in range(JUNK):
        await pipeline.send("call", 1, f"r{number}", model=f"junk {number}", region=f"junk {number}", latency_ms=1)
        if number == JUNK // 2:  # which names have a place stays decided
            await pipeline.consume(pipeline.join)
            await pipeline.join.tick()
            await pipeline.close()
            await pipeline.open()
    await pipeline.settle()
    calls = {model: row.cell.calls for (_, _, model, _), row in pipeline.rows.metrics.items()}
    assert calls == {f"junk {number}": 1 for number in range(5)} | {OTHER: JUNK - 5}
    regions = {value: row.cell.calls for (_, _, value, _), row in pipeline.rows.facets.items()}
    assert (len(regions), sum(regions.values()), regions[OTHER]) == (201, JUNK, JUNK - 200)
    tallies = pipeline.rows.tallies.items()
    warned = {key[2:4]: row.tally.count for key, row in tallies if key[2] == "cardinality"}
    assert warned == {("cardinality", "model"): JUNK - 5, ("cardinality", "region"): JUNK - 200}
    assert overflow._value.get() - before >= JUNK - 5
    logic: Any = pipeline.join.units[0].logic
    assert sum(map(len, logic._caps._names.values())) < 300
    assert not logic._calls._places
    await pipeline.close()


async def test_each_call_of_a_name_without_room_is_warned_of_once(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1, limits={"route": 1}).open()
    await pipeline.send("call", 1, "first", route="old")
    for number in range(7):
        await pipeline.send("call", 1, f"r{number}", route="new")
        if number % 3 == 2:
            await pipeline.settle()
    await pipeline.settle()
    calls = {route: row.cell.calls for (_, route, _, _), row in pipeline.rows.metrics.items()}
    assert calls == {"old": 1, OTHER: 7}
    tallies = pipeline.rows.tallies.items()
    assert {key[3]: row.tally.count for key, row in tallies if key[2] == "cardinality"} == {"route": 7}
    await pipeline.close()


async def test_a_version_counts_with_the_name_under_which_its_model_counts(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1, limits={"model": 1}).open()
    for number, model in enumerate(("first", "second", "third", "first")):
        await pipeline.send("call", 1, f"r{number}", model=model, model_version="v1")
    await pipeline.settle()
    calls = {(facet, value): row.cell.calls for (_, facet, value, _), row in pipeline.rows.facets.items()}
    assert calls == {("model_version", "first/v1"): 2, ("model_version", f"{OTHER}/v1"): 2}
    await pipeline.close()


async def test_names_have_room_again_once_the_windows_are_closed_that_had_them(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1, limits={"route": 1}).open()
    await pipeline.send("call", 1, "r1", route="old")
    await pipeline.send("call", 1, "r2", route="new")
    await pipeline.idle(60 + 300 + 60)
    await pipeline.send("call", 400, "r3", route="new")
    await pipeline.settle()
    assert [(key[1], row.cell.calls) for key, row in pipeline.rows.metrics.items()] == [
        ("old", 1),
        (OTHER, 1),
        ("new", 1),
    ]
    logic: Any = pipeline.join.units[0].logic
    assert {said[0] for said in logic._calls._told} == {(START + 400 * SECOND) // MINUTE}, "of open windows alone"
    await pipeline.close()
