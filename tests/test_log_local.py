"""The local log: the contract of every log, and what only this one promises."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from log_contract import LogContract, Reopen, numbered, read_all, records
from streamlens.errors import BadSetting, StreamLensError, Unavailable
from streamlens.locallog import LocalLog
from streamlens.locallog import groupcommit as gc
from streamlens.log import TP, Log, Record, TopicSpec

A = TP("a", 0)


class Clock:
    """Milliseconds that a test sets."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def log(tmp_path: Path, clock: Clock) -> AsyncIterator[LocalLog]:
    log = LocalLog.open(tmp_path / "log", clock_ms=clock)
    await log.start()
    yield log
    await log.stop()


@pytest.fixture
async def reopen(tmp_path: Path, clock: Clock) -> AsyncIterator[Reopen]:
    opened: list[LocalLog] = []

    async def reopen(log: Log) -> LocalLog:
        assert isinstance(log, LocalLog)
        await log.stop()
        opened.append(LocalLog.open(tmp_path / "log", clock_ms=clock))
        await opened[-1].start()
        return opened[-1]

    yield reopen
    for log in opened:
        await log.stop()


class Disk:
    """Stands between a log and its database: counts the syncs, holds them up, or makes them fail."""

    def __init__(self, log: LocalLog) -> None:
        self.syncs = 0
        self.error: Exception | None = None
        self.reached = asyncio.Event()
        """A sync has begun since `hold`."""
        self._loop = asyncio.get_running_loop()
        self._db = log._db
        self._passes = threading.Event()
        self._passes.set()
        log._group._db = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def flush_wal(self, sync: bool) -> None:
        assert sync
        self.syncs += 1
        self._loop.call_soon_threadsafe(self.reached.set)
        self._passes.wait(30)
        if self.error is not None:
            raise self.error
        self._db.flush_wal(sync)

    def hold(self) -> None:
        self.reached.clear()
        self._passes.clear()

    def release(self) -> None:
        self._passes.set()


class TestLocalLog(LogContract):
    pass


async def test_the_id_is_made_once(log: LocalLog, reopen: Reopen, tmp_path: Path) -> None:
    other = LocalLog.open(tmp_path / "other")
    assert len(log.log_id) == 32
    assert other.log_id != log.log_id
    other.close()
    again = await reopen(log)
    assert isinstance(again, LocalLog)
    assert again.log_id == log.log_id


async def test_a_second_opener_is_refused_by_name(log: LocalLog, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"{tmp_path / 'log'} is open in another process"):
        LocalLog.open(tmp_path / "log")


async def test_a_reader_opens_beside_the_writer(log: LocalLog, tmp_path: Path) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    await log.append({A: numbered(0, 10)})
    reader = LocalLog.open(tmp_path / "log", read_only=True)
    await log.append({A: numbered(10, 20)})
    assert reader.topics() == {"a": 1}
    assert reader.log_id == log.log_id
    assert await read_all(reader, A) == [r.value for r in numbered(0, 10)]
    for refused in (
        reader.append({A: numbered(0, 1)}),
        reader.create_topics([TopicSpec("b", 1)]),
        reader.delete_before(A, 5),
        reader.commit("g", {A: 5}),
        reader.apply_retention(),
    ):
        with pytest.raises(Unavailable, match="reading only"):
            await refused
    assert reader.topics() == {"a": 1}
    assert reader.start_offset(A) == 0
    await reader.stop()


async def test_there_is_nothing_to_read_where_no_log_is(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no log in"):
        LocalLog.open(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


async def test_an_unknown_partition_is_refused_by_name(log: LocalLog) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    with pytest.raises(BadSetting, match="no partition 1 of a topic a"):
        await log.append({TP("a", 1): numbered(0, 1)})
    with pytest.raises(BadSetting, match="at least one partition"):
        await log.create_topics([TopicSpec("b", 0)])


async def test_appends_of_many_tasks_share_syncs(log: LocalLog) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    disk = Disk(log)
    for i in range(3):
        await log.append({A: numbered(i, i + 1)})
    assert disk.syncs == 3, "one that comes alone has a sync of its own"
    await asyncio.gather(*(log.append({A: numbered(i, i + 1)}) for i in range(200)))
    assert disk.syncs == 4, "what arrives together shares one"
    disk.hold()
    first = asyncio.create_task(log.append({A: numbered(0, 1)}))
    await disk.reached.wait()
    rest = []
    for i in range(50):
        rest.append(asyncio.create_task(log.append({A: numbered(i, i + 1)})))
        await asyncio.sleep(0)
    assert disk.syncs == 5
    disk.release()
    assert [r[A] for r in await asyncio.gather(first, *rest)] == list(range(203, 254))
    assert disk.syncs == 6, "what arrives during a sync shares the next"


async def test_no_sync_when_the_kernel_shall_decide(tmp_path: Path) -> None:
    log = LocalLog.open(tmp_path / "log", sync=False)
    await log.create_topics([TopicSpec("a", 1)])
    disk = Disk(log)
    await log.append({A: numbered(0, 10)})
    assert disk.syncs == 0
    assert len(await read_all(log, A)) == 10
    await log.stop()


async def test_readers_never_see_what_is_not_synced(log: LocalLog) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    await log.append({A: records("durable")})
    disk = Disk(log)
    disk.hold()
    waiting = asyncio.create_task(log.append({A: records("on its way")}))
    await disk.reached.wait()
    assert log.end_offset(A) == 1
    assert log.read_now(A, 0).values == [b"durable"]
    assert not waiting.done()
    disk.release()
    assert await waiting == {A: 1}
    assert log.read_now(A, 0).values == [b"durable", b"on its way"]


async def test_more_than_the_bound_is_refused_while_the_disk_is_slow(log: LocalLog) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    disk = Disk(log)
    disk.hold()
    value = Record(None, bytes((1 << 20) - gc.RECORD_BYTES))
    waiting = [asyncio.create_task(log.append({A: [value]})) for _ in range(gc.MAX_WAITING_BYTES >> 20)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="waiting for the disk"):
        await log.append({A: records("one too many")})
    disk.release()
    await asyncio.gather(*waiting)
    await log.append({A: records("room again")})
    assert log.end_offset(A) == len(waiting) + 1


async def test_one_append_larger_than_the_bound_passes_alone(log: LocalLog) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    await log.append({A: [Record(None, bytes(1 << 20))] * 33})
    assert log.end_offset(A) == 33


async def test_all_who_wait_for_growth_wake_up(log: LocalLog) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    assert not await log.wait_grown(0.001)
    waiters = [asyncio.create_task(log.wait_grown(30)) for _ in range(3)]
    await asyncio.sleep(0)
    await log.append({A: numbered(0, 1)})
    assert await asyncio.gather(*waiters) == [True, True, True]
    assert not await log.wait_grown(0.001)


async def test_small_appends_are_merged_into_one_run(log: LocalLog) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    for i in range(50):
        await log.append({A: numbered(i, i + 1)})
    assert log.read_now(A, 0) == log.read_now(A, 0, 1 << 30)
    assert len(log.read_now(A, 7).values) == 43
    assert len(log.read_now(A, 7, max_bytes=1).values) == 1
    await log.append({A: numbered(50, 5000)})
    assert len(log.read_now(A, 50, 1 << 30).values) == 2000
    assert len(log.read_now(A, 51, 1 << 30).values) == 1999, "whole batches only"


async def test_stop_writes_what_waits(log: LocalLog, reopen: Reopen) -> None:
    await log.create_topics([TopicSpec("a", 1)])
    waiting = [asyncio.create_task(log.append({A: numbered(i, i + 1)})) for i in range(10)]
    await asyncio.sleep(0)
    again = await reopen(log)
    assert [r[A] for r in await asyncio.gather(*waiting)] == list(range(10))
    assert len(await read_all(again, A)) == 10
    with pytest.raises(Unavailable, match="closed"):
        await log.append({A: numbered(0, 1)})


async def test_a_failing_sync_ends_the_log_for_all(tmp_path: Path) -> None:
    told: list[StreamLensError] = []
    log = LocalLog.open(tmp_path / "log", on_failure=told.append)
    await log.create_topics([TopicSpec("a", 1)])
    await log.append({A: numbered(0, 5)})
    disk = Disk(log)
    disk.error = Exception("IO error: the disk is gone")
    disk.hold()
    appends = [asyncio.create_task(log.append({A: numbered(0, 1)}))]
    await disk.reached.wait()
    appends += [asyncio.create_task(log.append({A: numbered(0, 1)})) for _ in range(4)]
    await asyncio.sleep(0)
    disk.release()
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert all(r is told[0] for r in results), "in the failing group and behind it"
    assert isinstance(told[0], Unavailable)
    assert "the disk is gone" in str(told[0])
    disk.error = None  # too late: nobody knows what the failed sync left on disk
    for late in (log.append({A: numbered(0, 1)}), log.commit("g", {A: 1}), log.delete_before(A, 1)):
        with pytest.raises(Unavailable) as refused:
            await late
        assert refused.value is told[0]
    assert log.end_offset(A) == 5
    assert len(log.read_now(A, 0).values) == 5
    await log.stop()
    assert len(told) == 1
