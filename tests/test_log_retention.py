"""Retention of the local log: what goes, what stays, and that offsets survive it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from log_contract import numbered, read_all
from streamlens.errors import Damaged, StreamLensError
from streamlens.locallog import LocalLog, local
from streamlens.locallog.batch import batch_key, partition_prefix
from streamlens.log import TP, Record, TopicSpec

A = TP("a", 0)


@pytest.fixture
def now() -> list[int]:
    return [0]


@pytest.fixture
async def log(tmp_path: Path, now: list[int]) -> AsyncIterator[LocalLog]:
    log = LocalLog.open(tmp_path / "log", clock_ms=lambda: now[0])
    yield log
    await log.stop()


async def append_ten(log: LocalLog, now: list[int]) -> None:
    """Batch i holds 10 records of 100 bytes and is appended at i * 1000 ms."""
    for i in range(10):
        now[0] = i * 1000
        await log.append({A: [Record(None, b"%0100d" % (10 * i + n)) for n in range(10)]})


@pytest.mark.parametrize(
    ("retention", "now_ms", "start"),
    [
        pytest.param({}, 10**12, 0, id="for ever is the default"),
        pytest.param({"retention_ms": 5000}, 5000, 0, id="nothing is old enough"),
        pytest.param({"retention_ms": 5000}, 5001, 10, id="the first batch is too old"),
        pytest.param({"retention_ms": 5000}, 8500, 40, id="several are"),
        pytest.param({"retention_ms": 5000}, 10**12, 90, id="all are, but the last batch stays"),
        pytest.param({"retention_ms": 0}, 9000, 90, id="keep nothing: the last batch stays"),
        pytest.param({"retention_bytes": 10_000}, 0, 0, id="all fits"),
        pytest.param({"retention_bytes": 9_999}, 0, 10, id="one byte too many"),
        pytest.param({"retention_bytes": 3_500}, 0, 70, id="whole batches only"),
        pytest.param({"retention_bytes": 0}, 0, 90, id="no bytes: the last batch stays"),
        pytest.param({"retention_ms": 5000, "retention_bytes": 7_000}, 6500, 30, id="the size decides"),
        pytest.param({"retention_ms": 5000, "retention_bytes": 9_000}, 8500, 40, id="the age decides"),
    ],
)
async def test_what_goes(log: LocalLog, now: list[int], retention: dict[str, int], now_ms: int, start: int) -> None:
    await log.create_topics([TopicSpec("a", 1, **retention)])
    await append_ten(log, now)
    assert await log.apply_retention(now_ms) == ({A: start} if start else {})
    assert await log.apply_retention(now_ms) == {}
    assert await log.offsets([A]) == {A: (start, 100)}
    assert await read_all(log, A) == [b"%0100d" % i for i in range(start, 100)]


async def test_each_topic_has_its_own(log: LocalLog, now: list[int]) -> None:
    await log.create_topics([TopicSpec("a", 1, retention_bytes=0), TopicSpec("b", 2), TopicSpec("c", 1)])
    for i in range(3):
        await log.append({tp: numbered(i, i + 1) for tp in (A, TP("b", 1), TP("c", 0))})
    assert await log.apply_retention() == {A: 2}
    assert await read_all(log, TP("b", 1)) == [r.value for r in numbered(0, 3)]


async def test_a_start_inside_a_batch_stays_when_nothing_goes(log: LocalLog, now: list[int]) -> None:
    await log.create_topics([TopicSpec("a", 1, retention_ms=5000)])
    await append_ten(log, now)
    await log.delete_before(A, 13)
    assert await log.apply_retention(6000) == {}
    assert await log.apply_retention(6001) == {A: 20}


async def test_the_settings_of_a_topic_can_change(log: LocalLog, now: list[int]) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    await append_ten(log, now)
    await log.create_topics([TopicSpec("a", 1, retention_bytes=5000)])
    assert await log.apply_retention() == {A: 50}


async def test_a_clock_that_goes_back_keeps_what_is_young(log: LocalLog, now: list[int]) -> None:
    await log.create_topics([TopicSpec("a", 1, retention_ms=5000)])
    for now[0] in (1000, 9000, 2000, 3000):
        await log.append({A: numbered(0, 10)})
    assert await log.apply_retention(12_000) == {A: 10}


async def test_it_runs_by_itself(log: LocalLog, now: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RETENTION_EVERY_S", 0.001)
    await log.create_topics([TopicSpec("a", 1, retention_ms=5000)])
    await append_ten(log, now)
    now[0] = 10**12
    await log.start()
    for _ in range(5000):
        if log.start_offset(A):
            break
        await asyncio.sleep(0.001)
    assert log.start_offset(A) == 90


async def test_damage_found_by_it_ends_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RETENTION_EVERY_S", 0.001)
    told: asyncio.Queue[StreamLensError] = asyncio.Queue()
    log = LocalLog.open(tmp_path / "log", on_failure=told.put_nowait)
    await log.create_topics([TopicSpec("a", 1, retention_bytes=0)])
    for i in range(3):
        await log.append({A: numbered(i, i + 1)})
    log._db.put(batch_key(partition_prefix(1, 0), 0), b"not a batch")
    await log.start()
    assert isinstance(await asyncio.wait_for(told.get(), 5), Damaged)
    with pytest.raises(Damaged):
        await log.append({A: numbered(0, 1)})
    await log.stop()


async def test_offsets_survive_deletion_and_reopening(tmp_path: Path) -> None:
    for turn in range(3):
        log = LocalLog.open(tmp_path / "log")
        await log.create_topics([TopicSpec("a", 2)])
        assert await log.offsets([A]) == {A: (turn * 10, turn * 10)}
        assert await log.append({A: numbered(0, 10)}) == {A: turn * 10}
        await log.delete_before(A, turn * 10 + 10)
        await log.stop()


async def test_what_its_reader_has_not_committed_outlives_its_retention(tmp_path: Path) -> None:
    log = LocalLog.open(tmp_path / "log", sync=False, clock_ms=lambda: 1_000, reader="group")
    await log.create_topics([TopicSpec("t", 1, retention_ms=10)])
    tp = TP("t", 0)
    for value in (b"read", b"unread", b"last"):
        await log.append({tp: [Record(None, value)]})
    await log.commit("group", {tp: 1})
    await log.apply_retention(now_ms=1_000_000)
    assert log.start_offset(tp) == 1
    await log.commit("group", {tp: 3})
    await log.apply_retention(now_ms=1_000_000)
    assert log.start_offset(tp) == 2
    await log.stop()
