"""A worker of `checkpoint_world.py`: the I/O around a `Unit` in the order of `checkpoint/stage.py`, step by step.

A step is one thing that others can tell apart: one record appended, one batch written, one row published.
"""

from collections.abc import Generator, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from checkpoint_changelog import CHANGELOG, Changelog
from checkpoint_counting import Counting
from checkpoint_truth import MemoryStore
from streamlens.checkpoint.frames import Version, takeover_record
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.takeover import catch_up, read_gap
from streamlens.checkpoint.unit import Frame, Unit
from streamlens.log import UNKNOWN_OFFSET, Log

if TYPE_CHECKING:
    from checkpoint_world import World

Steps = Generator[str, None, None]


class Worker:
    """One process that has, or believes to have, the partition. What it does next is what `step` does."""

    def __init__(self, world: "World", name: str, store: MemoryStore) -> None:
        self.world = world
        self.name = name
        self.store = store
        self.changelog = Changelog(world, store)
        self.log = cast(Log, self.changelog)  # Who takes over, or looks into a gap, needs only some of it.
        self.unit: Unit | None = None
        self.sent: dict[bytes, Version] = {}
        self.unsent: list[bytes] = []
        self.told = True
        self._steps = self._live()

    def step(self) -> str:
        """Do the next step; returns its name, "off" when there is none."""
        return next(self._steps, "off")

    def _live(self) -> Steps:
        while self.unit or self.world.owner == self.name:
            yield from self._checkpoint(self.unit) if self.unit else self._take_over()

    def _take_over(self) -> Steps:
        takeover = yield from self._append([takeover_record(self.name, 0)], "ask")
        if takeover == UNKNOWN_OFFSET:
            return
        logic = Counting(tuple(self.world.sources), self.world.lateness)
        unit = Unit(
            self.store,
            logic,
            lagging_sink=self.world.lagging,
            part_bytes=self.world.part_bytes,
            snapshot_min_bytes=self.world.snapshot_min_bytes,
        )
        new_replay = partial(Replay, self.store, logic.outputs, lagging_sink=self.world.lagging)
        # The engine's own code: each of its awaits is a step.
        replay = yield from catch_up(self.log, CHANGELOG, self.store, new_replay, takeover).__await__()
        if replay is None:
            yield "fenced"
            return
        yield from self.changelog.written().__await__()
        unit.recover(takeover, replay)
        self.world.check_recovered(takeover, unit)
        yield "recover"
        outputs = [(key, version, self.store.get(key)) for key, version in unit.unpublished().items()]
        yield from self.publish(unit, outputs)
        unit.published()
        self.unit = unit
        yield "run"

    def _checkpoint(self, unit: Unit) -> Steps:
        frame = unit.freeze()
        if frame is None:
            yield "idle"
            return
        base = yield from self._append(frame.records, "freeze")
        if (yield from self.is_fenced(unit, frame.records, base)):
            self.drop(unit, frame)
            yield "fenced"
            return
        outputs = [(key, frame.version, frame.changes[key]) for key in frame.outputs]
        yield from self.publish(unit, outputs[: self.world.published_before])
        unit.write(frame)
        yield "write"
        yield from self.publish(unit, outputs[self.world.published_before :])
        unit.published()
        self.world.committed = frame.header.offsets
        yield "commit"
        yield from self._snapshot(unit)

    def _snapshot(self, unit: Unit) -> Steps:
        """A piece of the snapshot, if one is due; after the last one the changelog's head is cut."""
        records = unit.snapshot_records()
        if not records:
            return
        base = yield from self._append(records, "snapshot")
        if (yield from self.is_fenced(unit, records, base)):
            self.drop(unit)
            yield "fenced"
            return
        position = unit.snapshot_appended()
        yield "piece" if position is None else "complete"
        if position is not None:
            self.world.delete_before(position)
            yield "cut"

    def _append(self, records: Sequence[bytes], label: str) -> Generator[str, None, int]:
        """Send these records, which arrive one by one. Returns the offset of the first.

        Told nothing, or that others' records came between them, the caller knows nothing: `UNKNOWN_OFFSET`.
        """
        self.unsent, self.told, offsets = list(records), True, list[int]()
        yield label
        while self.unsent:
            offsets.append(self.world.append(self.unsent.pop(0)))
            yield "append"
        return self.acknowledged(offsets) if self.told else UNKNOWN_OFFSET

    def acknowledged(self, offsets: Sequence[int]) -> int:
        return offsets[0] if offsets[-1] - offsets[0] + 1 == len(offsets) else UNKNOWN_OFFSET

    def is_fenced(self, unit: Unit, records: Sequence[bytes], base: int) -> Generator[str, None, bool]:
        between = yield from read_gap(self.log, CHANGELOG, unit.gap(base)).__await__()
        return unit.fenced(records, base, between)

    def drop(self, unit: Unit, frame: Frame | None = None) -> None:
        """What was appended is lost or its fate unknown: forget all that is in memory, the log has its durable part."""
        unit.drop()
        self.unit = None

    def publish(self, unit: Unit, outputs: Iterable[tuple[bytes, Version, bytes | None]]) -> Steps:
        for key, version, value in outputs:
            self.world.partials.take(key, version, value)
            yield f"publish {key.decode()}"
