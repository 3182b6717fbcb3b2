"""All units of one stage in this process: takes partitions over, hands runs to their units, ticks the checkpoint.

The order of I/O around the steps of `Unit` is here: append to the changelog, fence, write the store, publish. One tick
serves all units, so there is one produce request per half second and not one per partition.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from streamlens.checkpoint.frames import Version, takeover_record
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.store import Store
from streamlens.checkpoint.unit import Frame, Logic, Unit
from streamlens.errors import Damaged, Unavailable
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Record, Run
from streamlens.metrics import CHECKPOINT_SECONDS, RECOVERY_SECONDS

logger = structlog.get_logger()

_RETRY_S = 0.2
_MAX_PENDING = 200_000
"""Records counted since the last checkpoint, over all units, from which on agents wait for it."""


class StageLogic(Logic, Protocol):
    """A logic that publishes to topics and follows the time."""

    def advance(self, now_us: int, ends: Mapping[str, int]) -> None:
        """Move the watermark, before a checkpoint: `ends` are the source topics' end offsets, just fetched."""

    def render(self, key: bytes, value: bytes, version: Version) -> Iterable[tuple[TP, Record]]:
        """The records that publish one output."""


class Stage:
    """One stage. `topics` are its sources, `changelog` its table's topic; `fatal` ends the process with a last line."""

    def __init__(
        self,
        name: str,
        topics: Sequence[str],
        changelog: str,
        group: str,
        *,
        open_store: Callable[[int], Store],
        new_logic: Callable[[int], StageLogic],
        fatal: Callable[[BaseException], None],
        clock_us: Callable[[], int],
        lagging_sink: bool = False,
    ) -> None:
        self.name = name
        self.topics = topics
        self.changelog = changelog
        self.units: dict[int, Unit] = {}
        self._group = group
        self._open_store = open_store
        self._new_logic = new_logic
        self._fatal = fatal
        self._clock_us = clock_us
        self.lagging_sink = lagging_sink
        self._stores: dict[int, Store] = {}
        self._lock = asyncio.Lock()
        self._pending = 0
        self._room = asyncio.Event()
        self._room.set()
        self._log: Log
        self._seek: Callable[[TP, int], None] = lambda tp, offset: None
        self.on_checkpoint: Callable[[], None] = lambda: None
        self.last_checkpoint_us = 0

    def connect(self, log: Log, seek: Callable[[TP, int], None]) -> None:
        """Before the first takeover: the log, and how to make the consumer read a partition from an offset."""
        self._log = log
        self._seek = seek

    # -- partitions come and go ----------------------------------------------------------------------------------

    async def take_over(self, partitions: Iterable[int]) -> None:
        """Recover these partitions."""
        began_us = self._clock_us()
        async with self._lock:
            await asyncio.gather(*(self._take_over(p) for p in partitions if p not in self.units))
        RECOVERY_SECONDS.set((self._clock_us() - began_us) / 1e6)

    def source_offsets(self) -> dict[TP, int]:
        """From where to read the sources of the partitions that are here."""
        return {TP(topic, p): unit.offsets.get(topic, 0) for p, unit in self.units.items() for topic in self.topics}

    def close(self) -> None:
        """Close all stores. Without a last `tick` nothing is lost: the next start counts the records again."""
        self.units.clear()
        while self._stores:
            self._stores.popitem()[1].close()

    async def _take_over(self, partition: int) -> None:
        tp = TP(self.changelog, partition)
        takeover = await self._append_takeover(tp)
        store = self._stores.get(partition)
        if store is None:
            store = self._stores[partition] = self._open_store(partition)
        logic = self._new_logic(partition)
        unit = Unit(store, logic, lagging_sink=self.lagging_sink)
        replay = Replay(store, logic.is_output, lagging_sink=self.lagging_sink)
        start, _ = (await self._log.offsets([tp]))[tp]
        if replay.position < start:
            raise Damaged(
                f"{tp.topic} partition {partition} begins at {start}, the state needs it from {replay.position}"
            )
        began_us, began = self._clock_us(), replay.position
        position = began
        while position < takeover:
            run = await self._log.read(tp, position)
            for offset, record in enumerate(run.values, run.first):
                if offset < takeover:
                    replay.feed(offset, record)
            position = run.next
        unit.recover(takeover, replay)
        await self._check_sources(partition, unit)
        await self._publish((unit, key, store.get(key), version) for key, version in unit.unpublished().items())
        unit.published()
        await self._commit({partition: unit.offsets})  # the last epoch may have been made durable without it
        self.units[partition] = unit
        logger.info(
            "partition recovered",
            stage=self.name,
            partition=partition,
            epoch=unit.version[1],
            replayed=takeover - began,
            seconds=round((self._clock_us() - began_us) / 1e6, 3),
        )

    async def _append_takeover(self, tp: TP) -> int:
        while True:
            record = Record(None, takeover_record(self._group, self._clock_us() // 1000))
            offset = (await self._append({tp: [record]}))[tp]
            if offset != UNKNOWN_OFFSET:
                return offset
            await asyncio.sleep(_RETRY_S)

    async def _check_sources(self, partition: int, unit: Unit) -> None:
        tps = [TP(topic, partition) for topic in self.topics]
        for tp, (start, end) in (await self._log.offsets(tps)).items():
            if unit.version[1] == 0:
                unit.offsets[tp.topic] = start  # Nothing was ever read here: from the earliest.
            offset = unit.offsets.get(tp.topic, 0)
            if offset < start:
                raise Damaged(f"{tp.topic} partition {partition} begins at {start}, but was read to {offset} only")
            if offset > end:
                raise Damaged(f"{tp.topic} partition {partition} ends at {end}, but was read to {offset}: another log?")

    # -- runs ----------------------------------------------------------------------------------------------------

    async def process(self, tp: TP, run: Run) -> None:
        """Count one run. Waits while a checkpoint must catch up; never awaits once counting has begun."""
        await self._room.wait()
        unit = self.units.get(tp.partition)
        if unit is None:
            return  # Given up, or being taken over again: the consumer is told where to go on after that.
        try:
            in_order = unit.apply(tp.topic, run)
        except BaseException as error:
            self._fatal(error)
            raise
        if not in_order:
            self._seek(tp, unit.offsets.get(tp.topic, 0))
            return
        self._pending += len(run.values)
        if self._pending >= _MAX_PENDING:
            self._room.clear()

    async def read_rest(self) -> None:
        """Count what the log still holds, once the consumer has stopped."""
        for tp, offset in self.source_offsets().items():
            end = (await self._log.offsets([tp]))[tp][1]
            while offset < end:
                run = await self._log.read(tp, offset)
                await self.process(tp, run)
                offset = run.next

    # -- the checkpoint ------------------------------------------------------------------------------------------

    async def run(self, interval_s: float) -> None:
        """Tick for ever. What goes wrong in a tick ends the process."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.tick()
            except Exception as error:
                self._fatal(error)
                raise

    async def tick(self) -> None:
        """One checkpoint of all units that changed."""
        async with self._lock:
            ends = await self._log.offsets([TP(topic, p) for p in self.units for topic in self.topics])
            frames = self._freeze(ends)
            began_us = self.last_checkpoint_us = self._clock_us()
            if not frames:
                return
            bases = await self._append(
                {TP(self.changelog, p): [Record(None, part) for part in frame.records] for p, frame in frames.items()}
            )
            lost = [p for p, frame in frames.items() if await self._is_fenced(p, frame, bases[TP(self.changelog, p)])]
            won = {p: frame for p, frame in frames.items() if p not in lost}
            for p, frame in won.items():
                self.units[p].write(frame)
            await self._publish(
                (self.units[p], key, f.changes[key], f.version) for p, f in won.items() for key in f.outputs
            )
            for p in won:
                self.units[p].published()
            await self._commit({p: frame.header.offsets for p, frame in won.items()})
            await self._again(lost)
        CHECKPOINT_SECONDS.observe((self._clock_us() - began_us) / 1e6)
        self.on_checkpoint()

    def _freeze(self, ends: Mapping[TP, tuple[int, int]]) -> dict[int, Frame]:
        now_us, frames = self._clock_us(), {}
        for p, unit in self.units.items():
            logic: StageLogic = unit.logic  # type: ignore[assignment]  # made by new_logic
            logic.advance(now_us, {topic: ends[TP(topic, p)][1] for topic in self.topics})
            if frame := unit.freeze():
                frames[p] = frame
        self._pending = 0
        self._room.set()
        return frames

    async def _is_fenced(self, partition: int, frame: Frame, base: int) -> bool:
        unit, between = self.units[partition], []
        gap = unit.gap(base)
        position = gap.start
        while position < gap.stop:
            run = await self._log.read(TP(self.changelog, partition), position)
            between += run.values[: gap.stop - run.first]
            position = run.next
        return unit.fenced(frame, base, between)

    async def _again(self, lost: Sequence[int]) -> None:
        """A lost partition is dropped whole and taken over afresh: its durable state is what the changelog says."""
        for p in lost:
            logger.warning("partition fenced, taking it over again", stage=self.name, partition=p)
            del self.units[p]
            await self._take_over(p)
            for topic in self.topics:
                self._seek(TP(topic, p), self.units[p].offsets.get(topic, 0))

    async def _append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        try:
            return await self._log.append(batches)
        except Unavailable:
            return dict.fromkeys(batches, UNKNOWN_OFFSET)

    async def _publish(self, outputs: Iterable[tuple[Unit, bytes, bytes | None, Version]]) -> None:
        """Publish until acknowledged. Rows are absolute and versioned, so a repetition changes nothing."""
        batches: dict[TP, list[Record]] = {}
        for unit, key, value, version in outputs:
            assert value is not None, "an output is deleted only after it was published"
            logic: StageLogic = unit.logic  # type: ignore[assignment]
            for tp, record in logic.render(key, value, version):
                batches.setdefault(tp, []).append(record)
        while batches:
            bases = await self._append(batches)
            batches = {tp: batch for tp, batch in batches.items() if bases[tp] == UNKNOWN_OFFSET}
            if batches:
                await asyncio.sleep(_RETRY_S)

    async def _commit(self, offsets: Mapping[int, Mapping[str, int]]) -> None:
        """By partition, the next offset of each source topic: for lag tools and the audit."""
        found = {TP(topic, p): offset for p, topics in offsets.items() for topic, offset in topics.items()}
        await self._log.commit(self._group, found)
