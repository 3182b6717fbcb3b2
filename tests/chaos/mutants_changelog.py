"""Takeover, fence, frames and offsets, each taken out of the production classes. One docstring, one safeguard."""

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from streamlens.checkpoint import stage as stage_module
from streamlens.checkpoint import unit as unit_module
from streamlens.checkpoint.frames import (
    Change,
    Epoch,
    Header,
    Lineage,
    Part,
    Takeover,
    Version,
    parse,
)
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.store import Store
from streamlens.checkpoint.takeover import catch_up
from streamlens.checkpoint.unit import Frame, Unit
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Run

_encode = msgspec.msgpack.encode
_decode_body = msgspec.msgpack.Decoder(tuple[Header, list[Change]]).decode


def no_takeover_record() -> None:
    """the takeover's record: a generation is the log's end as its owner saw it, and the highest one counts"""

    async def read_only(
        log: Log, tp: TP, store: Store, new_replay: Callable[[], Replay], worker: str, clock_us: Callable[[], int]
    ) -> tuple[int, Replay]:
        while True:
            end = (await log.offsets([tp]))[tp][1]
            if (replay := await catch_up(log, tp, store, new_replay, end)) is not None:
                return end, replay
            await asyncio.sleep(0.2)

    def finish(self: Replay, end: int) -> Any:
        if self._lagging:
            self._forget_drained()
        self._move_to(end, self._meta.epoch, end, self._meta.header)
        self._write()
        return self._meta, dict.fromkeys(self._last[1], self._last[0])

    recover, feed = Unit.recover, Lineage._feed

    def recover_there(self: Unit, end: int, replay: Replay) -> None:
        recover(self, end, replay)
        self._next_own = end

    def follow_the_highest(self: Lineage, offset: int, part: Any) -> Epoch | None:
        if isinstance(part, Part):
            self.generation = max(self.generation, part.generation)
        return feed(self, offset, part)

    def fenced(self: Unit, records: Sequence[bytes], base: int, between: Iterable[bytes] | None) -> bool:
        if base == UNKNOWN_OFFSET or base < self._next_own or between is None:
            return True
        parts = [parse(base, record) for record in between]
        if any(not isinstance(part, Takeover) and part.generation > self.version[0] for part in parts):
            return True
        self._next_own = base + len(records)
        return False

    stage_module.take_over = read_only
    Replay.finish = finish  # type: ignore[method-assign]
    Unit.recover = recover_there  # type: ignore[method-assign]
    Unit.fenced = fenced  # type: ignore[method-assign]
    Lineage._feed = follow_the_highest  # type: ignore[method-assign]


def no_fence() -> None:
    """the look at what stands between the own records: a zombie believes in its epoch"""
    fenced = Unit.fenced
    Unit.fenced = lambda self, records, base, _: fenced(self, records, base, [])  # type: ignore[method-assign]


def generations_ignored() -> None:
    """the generations: for readers the epochs of zombies count too"""
    feed = Lineage._feed

    def follow(self: Lineage, offset: int, part: Any) -> Epoch | None:
        if isinstance(part, Part):
            self.generation = part.generation
        return feed(self, offset, part)

    Lineage._feed = follow  # type: ignore[method-assign]


def lost_answers_taken_for_success() -> None:
    """the new takeover after an append of unknown fate: it is believed to be written"""
    fenced = Unit.fenced

    def believe(self: Unit, records: Sequence[bytes], base: int, between: Iterable[bytes] | None) -> bool:
        return fenced(self, records, self._next_own if base == UNKNOWN_OFFSET else base, between)

    Unit.fenced = believe  # type: ignore[method-assign]


def incomplete_frames_applied() -> None:
    """the wait for a frame's last part: each part is applied as it is read"""

    def records(version: Version, header: Header, changes: list[Change], part_bytes: int) -> list[bytes]:
        slices: list[list[Change]] = [[]]
        room = part_bytes
        for key, value in changes:
            if room < 0:
                slices.append([])
                room = part_bytes
            slices[-1].append((key, value))
            room -= len(key) + len(value or b"")
        return [_encode(Part(*version, n, len(slices), _encode((header, of)))) for n, of in enumerate(slices, 1)]

    def take(self: Lineage, offset: int, part: Any) -> Epoch | None:
        if isinstance(part, Takeover):
            self.generation = offset
        if not isinstance(part, Part) or part.generation != self.generation:
            return None
        self.bytes += len(part.payload)
        self.epoch = part.epoch
        return Epoch(part.generation, part.epoch, offset + 1, *_decode_body(part.payload))

    def feed(self: Replay, offset: int, record: bytes) -> None:
        self.records += 1
        epoch = self._lineage.feed(offset, record)
        if epoch is None or (epoch.generation, epoch.epoch) < self._last[0]:
            return
        version, keys = self._last
        self._apply(epoch)
        if version == self._last[0]:
            self._last = (version, keys + self._last[1])

    unit_module.epoch_records = records
    Lineage._feed = take  # type: ignore[method-assign]
    Replay.feed = feed  # type: ignore[method-assign]


def store_written_first() -> None:
    """the order of changelog and store: RocksDB has the epoch before the log has"""
    freeze, write = Unit.freeze, Unit.write

    def freeze_and_write(self: Unit) -> Frame | None:
        if frame := freeze(self):
            write(self, frame)
        return frame

    Unit.freeze = freeze_and_write  # type: ignore[method-assign]
    Unit.write = lambda self, frame: None  # type: ignore[method-assign]


def offsets_only_in_the_group() -> None:
    """the offsets in the state: a takeover reads on from what the group has committed, as consumers do"""
    check = stage_module.check_sources

    async def ask_the_group(log: Log, tps: Sequence[TP], unit: Unit) -> None:
        await check(log, tps, unit)
        committed = await log.committed(os.environ["CONSUMER_GROUP"])  # type: ignore[attr-defined]
        unit.offsets.update({tp.topic: committed[tp] for tp in tps if tp in committed})

    stage_module.check_sources = ask_the_group


def repeated_records_counted() -> None:
    """the offset guard below: records that the state has seen are counted again"""

    def count_all(self: Unit, topic: str, run: Run) -> bool:
        if run.first > self.offsets.get(topic, 0):
            return False
        self.logic.apply(topic, run)
        self.offsets[topic] = run.next
        return True

    Unit.apply = count_all  # type: ignore[method-assign]


def gaps_skipped() -> None:
    """the offset guard above: a run that begins too late is counted, without what is missing"""
    apply = Unit.apply

    def go_on(self: Unit, topic: str, run: Run) -> bool:
        self.offsets[topic] = max(self.offsets.get(topic, 0), run.first)
        return apply(self, topic, run)

    Unit.apply = go_on  # type: ignore[method-assign]
