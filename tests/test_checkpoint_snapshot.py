"""Snapshots on a real log: the head is cut, a wiped or stale store is restored, and nothing is counted twice."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline import Pipeline
from streamlens.checkpoint import stage as stage_module
from streamlens.checkpoint import unit as unit_module
from streamlens.checkpoint.appends import Appends
from streamlens.checkpoint.frames import SnapshotPart, parse, takeover_record
from streamlens.checkpoint.replay import META, Meta, encode
from streamlens.checkpoint.snapshot import RESTORING, SnapshotWriter
from streamlens.checkpoint.store import RocksStore
from streamlens.errors import Damaged, Unavailable
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Record, Run

CHANGELOG = TP("pending-changelog", 0)
CALLS = 30


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots are due at once, and come in many small pieces over several checkpoints."""
    init = unit_module.Unit.__init__

    def with_small_parts(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **(options | {"part_bytes": 150, "snapshot_min_bytes": 3000}))

    monkeypatch.setattr(unit_module.Unit, "__init__", with_small_parts)
    monkeypatch.setattr(unit_module, "SNAPSHOT_PIECE_BYTES", 1)
    assert stage_module.Unit is unit_module.Unit


async def count(pipeline: Pipeline, first: int, calls: int = CALLS) -> None:
    for n in range(first, first + calls):
        await pipeline.send("call", 1, f"r{n}")
        await pipeline.settle()


def exact(pipeline: Pipeline, calls: int) -> None:
    assert pipeline.calls() == {("acme", 0): calls}
    assert pipeline.ledger() == {("acme", 0): {"received": calls, "aggregated": calls}}


async def test_the_head_is_cut_and_the_changelog_stays_bounded(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    lengths = []
    for n in range(6):
        await count(pipeline, n * CALLS)
        start, end = (await pipeline.log.offsets([CHANGELOG]))[CHANGELOG]
        lengths.append(end - start)
    assert start > 0
    assert end - start < end / 2
    exact(pipeline, 6 * CALLS)
    await pipeline.close()


@pytest.mark.parametrize("disk", ["kept", "wiped", "stale", "half restored"])
async def test_recovery_after_the_head_was_cut(tmp_path: Path, disk: str) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await count(pipeline, 0, 3)
    await pipeline.close()
    (tmp_path / "old").mkdir()
    for stage in ("pending", "windows"):
        (tmp_path / stage).rename(tmp_path / "old" / stage)
    await pipeline.open()
    await count(pipeline, 3, 3 * CALLS)
    assert pipeline.log.start_offset(CHANGELOG) > 0
    await pipeline.close()
    for stage in ("pending", "windows"):
        if disk != "kept":
            (tmp_path / stage).rename(tmp_path / "old" / f"{stage}-latest")
        if disk == "stale":
            (tmp_path / "old" / stage).rename(tmp_path / stage)
        if disk == "half restored":
            store = RocksStore(tmp_path / stage / "0")
            store.write({RESTORING: b"", b"\x00meta": b"\x94\xce\x00\x01\x00\x00", b"w": b"junk"})
            store.close()
    await pipeline.open()
    await count(pipeline, 0, 3)  # repeated by the client: the marks are there again
    await count(pipeline, 3 + 3 * CALLS, 2)
    assert pipeline.calls() == {("acme", 0): 5 + 3 * CALLS}
    assert pipeline.ledger()["acme", 0] == {
        "received": 8 + 3 * CALLS,
        "aggregated": 5 + 3 * CALLS,
        "duplicate": 3,
    }
    await pipeline.close()


async def test_a_restore_reads_on_and_never_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await count(pipeline, 0, 3 * CALLS)
    assert pipeline.log.start_offset(CHANGELOG) > 0
    await pipeline.close()
    (tmp_path / "pending").rename(tmp_path / "gone")
    read, positions = LocalLog.read, list[int]()

    async def noted(self: LocalLog, tp: TP, offset: int, max_bytes: int = 1 << 20) -> Run:
        if tp == CHANGELOG:
            positions.append(offset)
        return await read(self, tp, offset, min(max_bytes, 1000))

    monkeypatch.setattr(LocalLog, "read", noted)
    await pipeline.open()
    assert len(positions) > 1
    assert positions == sorted(set(positions))
    exact(pipeline, 3 * CALLS)
    await pipeline.close()


async def test_snapshots_come_one_after_the_other_as_large_as_the_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = await Pipeline(tmp_path, partitions=4).open()
    units, own, sizes = pipeline.join.units.values(), Appends.own, Counter[bool]()

    async def noted(self: Appends, records: dict[int, list[bytes]]) -> dict[int, int]:
        for record in (record for of_one in records.values() for record in of_one):
            sizes[isinstance(parse(0, record), SnapshotPart)] += len(record)
        return await own(self, records)

    monkeypatch.setattr(Appends, "own", noted)
    begun = 0
    for n in range(40):
        for call in range(40):
            await pipeline.send("call", 1, f"r{n}-{call}")
        sizes.clear()
        await pipeline.consume(pipeline.join)
        await pipeline.join.tick()
        assert sum(unit.in_snapshot for unit in units) <= 1
        begun += any(unit.in_snapshot for unit in units)
        assert sizes[True] < sizes[False] + 300  # the last piece
    assert begun > 4
    starts = await pipeline.log.offsets([TP(CHANGELOG.topic, p) for p in range(4)])
    assert all(start > 0 for start, _ in starts.values())
    await pipeline.settle()
    exact(pipeline, 40 * 40)
    await pipeline.close()


async def test_a_snapshot_that_a_takeover_voids_is_not_used(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await count(pipeline, 0, 3 * CALLS)
    generation, epoch = pipeline.join.units[0].version
    await pipeline.close()
    await pipeline.open()  # a takeover: what the old owner still appends is void
    writer = SnapshotWriter((generation, epoch + 50), iter([(b"w", b"of a zombie")]))
    await pipeline.log.append({CHANGELOG: [Record(None, writer.next_record())]})
    await pipeline.close()
    (tmp_path / "pending").rename(tmp_path / "gone")
    await pipeline.open()
    await count(pipeline, 3 * CALLS, 1)
    exact(pipeline, 3 * CALLS + 1)
    await pipeline.close()


async def test_an_incomplete_snapshot_is_not_used_and_the_head_not_cut(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    n = 0
    while not snapshot_parts(pipeline):
        await count(pipeline, n, 1)
        n += 1
    assert pipeline.log.start_offset(CHANGELOG) == 0
    await pipeline.close()
    (tmp_path / "pending").rename(tmp_path / "gone")
    await pipeline.open()
    await count(pipeline, n, 1)
    exact(pipeline, n + 1)
    await pipeline.close()


def snapshot_parts(pipeline: Pipeline) -> int:
    values = pipeline.log.read_now(CHANGELOG, pipeline.log.start_offset(CHANGELOG), 1 << 24).values
    return sum(isinstance(parse(0, value), SnapshotPart) for value in values)


async def test_a_head_cut_without_a_snapshot_never_starts_empty(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await count(pipeline, 0, 2)
    await pipeline.log.delete_before(CHANGELOG, 2)
    await pipeline.close()
    (tmp_path / "pending").rename(tmp_path / "gone")
    with pytest.raises(Damaged, match="holds no usable snapshot"):
        await pipeline.open()
    await pipeline.close()


async def test_a_worker_that_is_fenced_while_it_writes_a_snapshot_cuts_nothing(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    n = 0
    while not snapshot_parts(pipeline):
        await count(pipeline, n, 1)
        n += 1
    await pipeline.log.append({CHANGELOG: [Record(None, takeover_record("another", 0))]})
    await count(pipeline, n, 1)
    assert pipeline.log.start_offset(CHANGELOG) == 0
    await pipeline.settle()
    exact(pipeline, n + 1)
    await pipeline.close()


async def test_a_head_that_can_not_be_cut_now_is_cut_by_the_next_snapshot(tmp_path: Path) -> None:
    class Refusing:
        """A log whose broker is busy when records are to be deleted, as long as `busy`."""

        def __init__(self, log: LocalLog) -> None:
            self.log = log
            self.busy = True

        def __getattr__(self, name: str) -> Any:
            return getattr(self.log, name)

        async def delete_before(self, tp: TP, offset: int) -> None:
            if self.busy:
                raise Unavailable("the broker is busy")
            await self.log.delete_before(tp, offset)

    log = Refusing(LocalLog.open(tmp_path / "log", sync=False))
    pipeline = await Pipeline(tmp_path, partitions=1, log=log).open()
    await count(pipeline, 0, 2 * CALLS)
    assert log.start_offset(CHANGELOG) == 0
    log.busy = False
    await count(pipeline, 2 * CALLS, 2 * CALLS)
    assert log.start_offset(CHANGELOG) > 0
    exact(pipeline, 4 * CALLS)
    await pipeline.close()


async def test_a_snapshot_begins_only_where_the_store_says_where_the_changelog_stands(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    unit = pipeline.join.units[0]
    n = starts = last = 0
    while starts < 3:
        if unit.in_snapshot:
            unit._delta_bytes += 1 << 20  # so that the next one is due as soon as this one is complete
        await count(pipeline, n, 1)
        start = pipeline.log.start_offset(CHANGELOG)
        n, starts, last = n + 1, starts + (start > last), start
    await pipeline.close()
    (tmp_path / "pending").rename(tmp_path / "gone")
    await pipeline.open()
    exact(pipeline, n)
    await pipeline.close()


async def test_a_worker_whose_gap_a_later_owner_has_cut_takes_over_again(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await count(pipeline, 0, 3)
    generation = await another_owner(pipeline)
    await count(pipeline, 3, 1)
    assert pipeline.join.units[0].version[0] > generation
    await pipeline.settle()
    exact(pipeline, 4)
    await pipeline.close()


async def another_owner(pipeline: Pipeline) -> int:
    """Another worker takes the partition over, writes a snapshot, cuts the head and dies; returns its generation."""
    unit = pipeline.join.units[0]
    takeover = Record(None, takeover_record("another", 0))
    generation: int = (await pipeline.log.append({CHANGELOG: [takeover]}))[CHANGELOG]
    epoch = unit.version[1]
    entries = dict(unit.state.store.snapshot())
    header = msgspec.msgpack.decode(entries[META], type=Meta).header
    entries[META] = encode(Meta(generation, epoch, generation + 1, header))
    writer = SnapshotWriter((generation, epoch), iter(sorted(entries.items())), 1 << 20)
    await pipeline.log.append({CHANGELOG: [Record(None, writer.next_record())]})
    await pipeline.log.delete_before(CHANGELOG, generation + 1)
    return generation
