"""What stage two publishes: merged rows, revisions, finality and expiry, also through kills and without Postgres."""

import shutil
from pathlib import Path

import msgspec
import orjson
import pytest

from agents.join import Join
from pipeline import LINES, MINUTE, START, Pipeline
from streamlens import outbox
from streamlens.errors import Unavailable
from streamlens.log import TP, Run
from streamlens.metrics import LEDGER_IMBALANCE
from streamlens.postgres.rows import MetricRow
from streamlens.topics import METRICS, PARTIALS

KEY = ("acme", "chat", "gpt-4o-mini", START)


def row(pipeline: Pipeline) -> MetricRow:
    return pipeline.rows.metrics[KEY]


async def test_a_row_merges_all_partitions(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=3).open()
    for n in range(30):
        await pipeline.send(
            "call",
            1,
            f"r{n}",
            latency_ms=100 + n,
            prompt_tokens=10,
            completion_tokens=n,
            error_type="timeout" if n < 2 else None,
        )
    await pipeline.settle()
    cell = row(pipeline).cell
    assert (cell.calls, cell.errors, cell.error_types) == (30, 2, {"timeout": 2})
    assert (cell.latency_min_us, cell.latency_max_us, cell.latency_sum_us) == (100_000, 129_000, 3_435_000)
    assert (cell.prompt_tokens, cell.completion_tokens) == (300, 435)
    assert (cell.priced, cell.cost_pico) == (30, 300 * 150_000 + 435 * 600_000)  # USD 0.15 and 0.60 per million
    assert sum(cell.latency.values()) == 30
    await pipeline.close()


async def test_each_published_change_is_a_revision_and_a_record(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    for n in range(3):
        await pipeline.send("call", 1, f"r{n}")
        await pipeline.settle()
        await pipeline.settle()
    assert (row(pipeline).revision, row(pipeline).cell.calls) == (3, 3)
    records = [orjson.loads(value) for value in pipeline.log.read_now(TP(METRICS, 0), 0).values]
    assert [(r["requests"], r["revision"], r["final"]) for r in records] == [
        (1, 1, False),
        (2, 2, False),
        (3, 3, False),
    ]
    await pipeline.close()


async def test_a_row_is_final_once_all_partitions_are_past_it_and_a_late_amendment_revises_it(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.send("call", 1)
    await pipeline.idle(60 + 300 + 59)
    assert not row(pipeline).final
    await pipeline.idle(60 + 300 + 60)
    assert (row(pipeline).final, row(pipeline).revision) == (True, 2)
    await pipeline.send("call", 2, "after an outage of the client")
    await pipeline.settle()
    assert (row(pipeline).final, row(pipeline).revision, row(pipeline).cell.calls) == (True, 3, 2)
    await pipeline.close()


async def test_rows_leave_the_state_when_they_expire_and_stay_in_postgres(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1)
    await pipeline.settle()
    for _ in range(3):
        await pipeline.idle(60 + 3600 + 30)
    for stage in (pipeline.join, pipeline.windows):
        state = stage.units[0].state
        assert [key for key, _ in state.scan(b"w", b"x")] == []
        assert [key for key, _ in state.scan(b"m", b"n")] == []
    assert row(pipeline).cell.calls == 1
    await pipeline.close()


async def test_a_row_that_postgres_has_not_got_does_not_expire(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    pipeline.rows.error = Unavailable("down")
    await pipeline.send("call", 1)
    await pipeline.settle()
    for _ in range(3):
        await pipeline.idle(60 + 3600 + 30)
    await pipeline.close()
    await pipeline.open()
    pipeline.rows.error = None
    await pipeline.settle()
    assert (row(pipeline).cell.calls, row(pipeline).final) == (1, True)
    for _ in range(3):
        await pipeline.idle(60 + 3600 + 30)
    assert [key for key, _ in pipeline.windows.units[0].state.scan(b"w", b"x")] == []
    await pipeline.close()


@pytest.mark.parametrize("killed", [False, True])
async def test_settled_is_what_has_expired_and_is_in_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(outbox, "_ROWS_PER_WRITE", 1)  # the newest rows come first
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.send("call", 1)
    await pipeline.idle(60 + 3600 + 29)
    await pipeline.settle()
    assert pipeline.rows.settled_us == START
    pipeline.rows.error = Unavailable("down")
    await pipeline.send("call", 2, "a last amendment")
    for _ in range(3):
        await pipeline.idle(120 + 3600 + 30)
    if killed:
        await pipeline.close()
        await pipeline.open()
    pipeline.rows.error = None
    await pipeline.settle()
    assert (row(pipeline).cell.calls, pipeline.rows.settled_us) == (2, START), "the amendment had to wait"
    for _ in range(3):
        await pipeline.idle(120 + 3600 + 30)
    assert pipeline.rows.settled_us == START + 2 * MINUTE
    await pipeline.close()


@pytest.mark.parametrize("forgets", [False, True], ids=["on its disk", "restored from the changelog"])
async def test_what_has_expired_stays_so_when_events_may_come_later(
    tmp_path: Path, forgets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = await Pipeline(tmp_path).open()
    for number in range(5):
        await pipeline.send("call", 1, f"r{number}")
    await pipeline.settle()
    await pipeline.idle(2 * 3600)
    assert row(pipeline).cell.calls == 5
    monkeypatch.setattr("pipeline.LINES", msgspec.structs.replace(LINES, lateness_us=24 * 60 * MINUTE))
    await pipeline.close()
    if forgets:
        shutil.rmtree(tmp_path / "pending")
        shutil.rmtree(tmp_path / "windows")
    await pipeline.open()
    await pipeline.send("call", 2, "late")
    await pipeline.send("call", 2 * 3600, "in time")
    await pipeline.settle()
    assert row(pipeline).cell.calls == 5
    assert sum(counts.get("late", 0) for counts in pipeline.ledger().values()) == 1
    await pipeline.close()


async def test_rows_wait_on_disk_while_postgres_is_down(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    pipeline.rows.error = Unavailable("down")
    for minute in range(10):
        pipeline.clock.at(60 * minute)
        await pipeline.send("call", 60 * minute, f"r{minute}")
        await pipeline.settle()
    assert pipeline.outbox.backlog > 10
    assert all(len(unit.unpublished()) < 6 for unit in pipeline.windows.units.values()), "memory holds one epoch"
    await pipeline.close()
    await pipeline.open()
    pipeline.rows.error = None
    await pipeline.settle()
    assert pipeline.outbox.backlog == 0
    assert pipeline.calls() == {("acme", minute): 1 for minute in range(10)}
    await pipeline.close()


async def test_repeated_and_reordered_partials_change_nothing(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    for n in range(3):
        await pipeline.send("call", 1, f"r{n}")
        await pipeline.settle()
    before = row(pipeline)
    log, source = pipeline.log, TP(PARTIALS, 0)
    values = log.read_now(source, 0).values
    end = log.end_offset(source)
    again = [*reversed(values), *values]
    await pipeline.windows.process(source, Run(end, end + len(again), again))
    await pipeline.windows.tick()
    await pipeline.outbox.drain()
    assert row(pipeline) == before
    pipeline.windows.close()
    pipeline.join.close()
    await log.stop()


async def test_an_unpriced_call_has_no_cost_and_is_counted(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.send("call", 1, model="in-house-7b", prompt_tokens=5)
    await pipeline.settle()
    (found,) = pipeline.rows.metrics.values()
    assert (found.cell.priced, found.cell.unpriced, found.cell.cost_pico) == (0, 1, 0)
    assert found.window_start_us % MINUTE == 0
    await pipeline.close()


async def test_a_ledger_that_does_not_close_is_told(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1)
    await pipeline.settle()
    assert LEDGER_IMBALANCE._value.get() == 0
    logic = pipeline.join.units[0].logic
    assert isinstance(logic, Join)
    logic._ledger.entry(START // MINUTE, "acme").received += 2
    await pipeline.send("call", 2, "another")
    await pipeline.consume(pipeline.join)
    await pipeline.join.tick()
    await pipeline.consume(pipeline.windows)
    await pipeline.windows.tick()
    await pipeline.outbox.drain()
    assert LEDGER_IMBALANCE._value.get() == 2
    await pipeline.close()
