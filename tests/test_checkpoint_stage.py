"""The asynchronous shell of the checkpoint: lost appends, zombies, gaps and broken logic, on a real log."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import Pipeline
from streamlens.checkpoint.frames import takeover_record
from streamlens.checkpoint.pace import BEHIND_MS
from streamlens.errors import Damaged, Unavailable
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, UNKNOWN_OFFSET, Record, Run
from streamlens.topics import CALLS, METRICS

CHANGELOG = "pending-changelog"


class Lossy:
    """A log whose next appends to a topic lose their acknowledgement; `written` says whether they happened."""

    def __init__(self, log: LocalLog) -> None:
        self._log = log
        self.topic = ""
        self.times = 0
        self.written = True
        self.refuse = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        if self.times and any(tp.topic == self.topic for tp in batches):
            self.times -= 1
            if self.refuse:
                raise Unavailable("queue full")
            if self.written:
                await self._log.append(batches)
            return dict.fromkeys(batches, UNKNOWN_OFFSET)
        return await self._log.append(batches)


@pytest.mark.parametrize("topic", [CHANGELOG, "windows-changelog", "streamlens.partials", "llm.metrics"])
@pytest.mark.parametrize("fate", ["written", "not written", "refused"])
async def test_an_append_of_unknown_fate_loses_and_repeats_nothing(tmp_path: Path, topic: str, fate: str) -> None:
    lossy = Lossy(LocalLog.open(tmp_path / "log", sync=False))
    pipeline = await Pipeline(tmp_path, log=lossy).open()
    for n in range(5):
        await pipeline.send("call", 1, f"r{n}")
        lossy.topic, lossy.times, lossy.written, lossy.refuse = topic, 2, fate == "written", fate == "refused"
        await pipeline.settle()
        await pipeline.settle()
    assert pipeline.calls() == {("acme", 0): 5}
    assert pipeline.ledger() == {("acme", 0): {"received": 5, "aggregated": 5}}
    await pipeline.close()


async def test_a_takeover_by_another_worker_fences_this_one_which_takes_over_again(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1, "a")
    await pipeline.settle()
    generation = pipeline.join.units[0].version[0]
    await pipeline.log.append({TP(CHANGELOG, 0): [Record(None, takeover_record("another", 0))]})
    await pipeline.send("call", 1, "b")
    await pipeline.consume(pipeline.join)
    await pipeline.join.tick()
    assert (TP(CALLS, 0), 1) in pipeline.sought, "reads again what was counted in the lost epoch"
    assert pipeline.join.units[0].version[0] > generation
    await pipeline.settle()
    assert pipeline.calls() == {("acme", 0): 2}
    await pipeline.close()


async def test_a_gap_in_the_runs_is_not_counted_but_sought_back(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    for name in "abc":
        await pipeline.send("call", 1, name)
    tp = TP(CALLS, 0)
    values = pipeline.log.read_now(tp, 0).values
    await pipeline.join.process(tp, Run(1, 3, values[1:]))
    assert pipeline.sought == [(tp, 0)]
    await pipeline.join.process(tp, Run(0, 2, values[:2]))
    await pipeline.join.process(tp, Run(0, 3, values))  # overlaps: only the rest is counted
    await pipeline.settle()
    assert pipeline.calls() == {("acme", 0): 3}
    await pipeline.close()


@pytest.mark.parametrize(("waited_ms", "is_behind"), [(BEHIND_MS + 1, True), (BEHIND_MS - 1, False), (None, False)])
async def test_far_behind_is_who_counts_what_has_waited(tmp_path: Path, waited_ms: int | None, is_behind: bool) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1)
    values = pipeline.log.read_now(TP(CALLS, 0), 0).values
    appended_ms = 0 if waited_ms is None else pipeline.clock() // 1000 - waited_ms  # 0: only the producer told a time
    assert not pipeline.join._is_behind()
    await pipeline.join.process(TP(CALLS, 0), Run(0, 1, values, appended_ms))
    assert pipeline.join._is_behind() is is_behind
    await pipeline.close()


async def test_an_exception_in_the_logic_is_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1)
    error = RuntimeError("broken")

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline.join.units[0].logic, "apply", broken)
    with pytest.raises(RuntimeError):
        await pipeline.consume(pipeline.join)
    assert pipeline.fatal == [error]
    await pipeline.close()


async def test_a_log_that_lost_what_was_read_is_refused(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1, "a")
    await pipeline.settle()
    for name in "bcd":
        await pipeline.send("call", 1, name)
    await pipeline.log.delete_before(TP(CALLS, 0), 3)
    await pipeline.close()
    with pytest.raises(Damaged, match=r"llm\.calls partition 0 begins at 3, but was read to 1 only"):
        await pipeline.open()
    await pipeline.close()


async def test_a_changelog_whose_head_is_gone_never_starts_empty(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1, "a")
    await pipeline.settle()
    await pipeline.log.delete_before(TP(CHANGELOG, 0), 2)
    pipeline.join.close()
    import shutil

    shutil.rmtree(tmp_path / "pending")
    await pipeline.close()
    with pytest.raises(Damaged, match="begins at 2"):
        await pipeline.open()
    await pipeline.close()


async def test_rows_of_a_partition_that_was_taken_over_again_do_not_wait_for_traffic(tmp_path: Path) -> None:
    lossy = Lossy(LocalLog.open(tmp_path / "log", sync=False))
    pipeline = await Pipeline(tmp_path, partitions=1, log=lossy).open()
    await pipeline.send("call", 1)
    await pipeline.consume(pipeline.join)
    await pipeline.join.tick()
    await pipeline.consume(pipeline.windows)
    woken: list[int] = []
    pipeline.windows.on_checkpoint = lambda: woken.append(pipeline.outbox.backlog)
    lossy.topic, lossy.times = "windows-changelog", 1  # written, but who knows: recovered as the last epoch
    await pipeline.windows.tick()
    assert woken[-1] == 6, "the row, its ledger entry, the call itself and three warnings"
    await pipeline.close()


async def test_stores_and_postgres_do_not_wait_for_the_topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1)
    await pipeline.consume(pipeline.join)
    await pipeline.join.tick()
    await pipeline.consume(pipeline.windows)
    append, asked, answer, woken = pipeline.log.append, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        if any(tp.topic == METRICS for tp in batches):
            asked.set()
            await answer.wait()
        return await append(batches)

    monkeypatch.setattr(pipeline.log, "append", slow)
    pipeline.windows.on_checkpoint = woken.set
    tick = asyncio.create_task(pipeline.windows.tick())
    await asyncio.wait_for(asyncio.gather(asked.wait(), woken.wait()), 10)
    assert pipeline.outbox.backlog == 6
    await pipeline.outbox.drain()
    assert pipeline.calls() == {("acme", 0): 1}
    assert not tick.done()
    answer.set()
    await tick
    await pipeline.close()


@pytest.mark.parametrize("written", [True, False])
async def test_a_checkpoint_that_is_cancelled_in_the_middle_ends_in_a_new_takeover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("call", 1)
    await pipeline.consume(pipeline.join)
    generation, log, append = pipeline.join.units[0].version[0], pipeline.log, pipeline.log.append
    reached = asyncio.Event()

    async def silent(batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        if written:
            await append(batches)
        reached.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    monkeypatch.setattr(log, "append", silent)
    tick = asyncio.create_task(pipeline.join.tick())
    await reached.wait()
    tick.cancel()
    await asyncio.wait([tick])
    monkeypatch.setattr(log, "append", append)
    await pipeline.settle()
    await pipeline.settle()
    assert pipeline.join.units[0].version[0] > generation
    assert pipeline.calls() == {("acme", 0): 1}
    assert pipeline.ledger() == {("acme", 0): {"received": 1, "aggregated": 1}}
    await pipeline.close()
