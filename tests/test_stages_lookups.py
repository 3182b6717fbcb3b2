"""Which rows are looked up in the state: those that can be there, and what waits for Postgres about once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import SECOND, START, Pipeline
from streamlens import outbox
from streamlens.checkpoint.replay import OUTBOX
from streamlens.checkpoint.store import RocksStore
from streamlens.errors import Unavailable
from tables import windowed

ROWS = b"wfls"
"""What these calls have in the state of both stages: cells, facets, the ledger, warnings."""
CALLS = 12


@pytest.fixture
def got(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often the stores were asked for a key, by its first byte."""
    asked, get = Counter[bytes](), RocksStore.get

    def counting(store: RocksStore, key: bytes) -> bytes | None:
        asked[key[:1]] += 1
        return get(store, key)

    monkeypatch.setattr(RocksStore, "get", counting)
    return asked


async def count(pipeline: Pipeline, at: float, batch: str) -> None:
    """Calls of one minute, each of a series of its own, through both stages; Postgres is away."""
    pipeline.clock.us = max(pipeline.clock.us, START + round(at * SECOND))
    for n in range(CALLS):
        await pipeline.send("call", at, f"{batch}{n}", route=f"route {n}", finish_reason="stop")
    for stage in (pipeline.join, pipeline.windows):
        await pipeline.consume(stage)
        await stage.tick()


def looked_up(got: Counter[bytes]) -> int:
    return sum(got[bytes([prefix])] for prefix in ROWS)


async def test_rows_of_new_windows_are_not_looked_up_and_rows_of_known_ones_are_in_memory(
    tmp_path: Path, got: Counter[bytes]
) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    for minute in range(4):
        await count(pipeline, 60 * minute, f"a{minute}")
        await count(pipeline, 60 * minute + 1, f"b{minute}")
    assert looked_up(got) == 0
    await pipeline.outbox.drain()
    assert pipeline.calls() == {("acme", minute): 2 * CALLS for minute in range(4)}
    await pipeline.close()


async def test_after_a_kill_windows_that_are_in_the_state_are_looked_up_and_later_ones_are_not(
    tmp_path: Path, got: Counter[bytes]
) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await count(pipeline, 1, "a")
    await count(pipeline, 61, "b")
    await pipeline.close()
    await pipeline.open()
    got.clear()
    await count(pipeline, 2, "c")
    await count(pipeline, 62, "d")
    in_state = looked_up(got)
    assert in_state >= 4 * CALLS  # a cell of each series and minute, in both stages
    await count(pipeline, 121, "e")
    assert looked_up(got) == in_state
    await pipeline.outbox.drain()
    assert pipeline.calls() == {("acme", 0): 2 * CALLS, ("acme", 1): 2 * CALLS, ("acme", 2): CALLS}
    await pipeline.close()


async def test_rows_that_the_memory_has_no_room_for_are_looked_up_again(
    tmp_path: Path, got: Counter[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windowed.Windowed.__init__, "__defaults__", (CALLS - 1,))
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await count(pipeline, 1, "a")
    await count(pipeline, 2, "b")
    assert got[b"w"] == CALLS  # in stage one; stage two has its limit from its families
    await pipeline.outbox.drain()
    assert pipeline.calls() == {("acme", 0): 2 * CALLS}
    await pipeline.close()


async def test_a_call_for_a_closed_window_finds_its_rows(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await count(pipeline, 1, "a")
    await pipeline.idle(60 + 300 + 60)
    await count(pipeline, 2, "b")
    await pipeline.outbox.drain()
    assert pipeline.calls() == {("acme", 0): 2 * CALLS}
    assert len(pipeline.rows.recent) <= 10
    await pipeline.close()


async def test_what_waits_for_postgres_is_read_about_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_ROWS_PER_WRITE", 5)
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    pipeline.rows.error = Unavailable("away")
    for minute in range(10):
        await count(pipeline, 60 * minute, str(minute))
    pipeline.rows.error = None
    waiting, read = pipeline.outbox.backlog, 0
    assert waiting > 100
    scan = RocksStore.scan

    def counting(store: RocksStore, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        nonlocal read
        for entry in scan(store, low, high):
            read += low.startswith(OUTBOX)
            yield entry

    monkeypatch.setattr(RocksStore, "scan", counting)
    await pipeline.outbox.drain()
    assert pipeline.outbox.backlog == 0
    assert read < 3 * waiting
    assert pipeline.calls() == dict.fromkeys([("acme", minute) for minute in range(10)], CALLS)
    await pipeline.close()


async def test_what_comes_before_rows_that_were_written_meanwhile_is_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_ROWS_PER_WRITE", 5)
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    pipeline.rows.error = Unavailable("away")
    await count(pipeline, 121, "a")
    await count(pipeline, 122, "b")
    await count(pipeline, 181, "c")  # not waiting on disk itself: it was only just published
    pipeline.rows.error = None
    for _ in range(8):
        await pipeline.outbox._write_some()
    pipeline.rows.error = Unavailable("away")
    await count(pipeline, 1, "d")
    await count(pipeline, 182, "e")
    pipeline.rows.error = None
    await pipeline.outbox.drain()
    assert pipeline.outbox.backlog == 0
    assert pipeline.calls() == {("acme", 0): CALLS, ("acme", 2): 2 * CALLS, ("acme", 3): 2 * CALLS}
    await pipeline.close()
