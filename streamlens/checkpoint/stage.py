"""All units of one stage in this process: takes partitions over, hands runs to their units, ticks the checkpoint.

The order of I/O around the steps of `Unit` is here: append to the changelog, fence, then write the store and publish
side by side. One tick serves all units, so there is one produce request per half second and not one per partition.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import structlog

from streamlens.checkpoint.appends import Appends, StageLogic
from streamlens.checkpoint.pace import BEHIND_MS, LATE_MS, MAX_PENDING, MAX_PENDING_BYTES, Pace
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.store import Store
from streamlens.checkpoint.takeover import check_sources, take_over
from streamlens.checkpoint.unit import SNAPSHOT_MIN_BYTES, Frame, Unit
from streamlens.errors import Unavailable
from streamlens.log import TP, Log, Member, Run
from streamlens.metrics import CHECKPOINT_SECONDS, RECOVERY_SECONDS

logger = structlog.get_logger()

_RETRY_S = 0.2


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
        in_bytes: bool = False,  # an epoch is full by its bytes, not its records, as one with a lagging sink is
        snapshot_min_bytes: int = SNAPSHOT_MIN_BYTES,
    ) -> None:
        self.name = name
        self.topics = topics
        self.changelog = changelog
        self.units: dict[int, Unit] = {}
        self._group = group
        self._open_store, self._new_logic = open_store, new_logic
        self._fatal, self._clock_us = fatal, clock_us
        self.lagging_sink = lagging_sink
        self._snapshot_min_bytes = snapshot_min_bytes
        self._stores: dict[int, Store] = {}
        self._lock = asyncio.Lock()
        self._in_bytes = in_bytes or lagging_sink
        self._pace = Pace(MAX_PENDING_BYTES if self._in_bytes else MAX_PENDING, follows=lagging_sink)
        self._counted_ms = 0
        self._lost: dict[int, dict[TP, int]] = {}
        self._log: Log
        self._appends: Appends
        self._member: Member
        self._ends, self._hints = dict[TP, int](), dict[TP, int]()
        self.on_checkpoint: Callable[[], None] = lambda: None
        self.last_checkpoint_us = 0

    def connect(self, log: Log, member: Member) -> None:
        """Before the first takeover: the log, and the consumer that brings the runs."""
        self._log = log
        self._appends = Appends(log, self.changelog)
        self._member = member

    # -- partitions come and go ----------------------------------------------------------------------------------

    async def take_over(self, partitions: Iterable[int]) -> None:
        """Recover these partitions."""
        began_us = self._clock_us()
        async with self._lock:
            self._lost.clear()
            await asyncio.gather(*(self._take_over(p) for p in partitions if p not in self.units))
        RECOVERY_SECONDS.set((self._clock_us() - began_us) / 1e6)
        self._pace.taken_over()
        self.on_checkpoint()  # rows may wait in what was taken over

    def source_offsets(self) -> dict[TP, int]:
        """From where to read the sources of the partitions that are here."""
        return {TP(topic, p): unit.offsets.get(topic, 0) for p, unit in self.units.items() for topic in self.topics}

    def lag(self) -> dict[TP, int]:
        """Records of each source partition that were not counted yet, as of the last checkpoint's end offsets."""
        return {tp: max(0, self._ends.get(tp, 0) - offset) for tp, offset in self.source_offsets().items()}

    async def give_up(self) -> None:
        """The group takes the partitions away: a last checkpoint, then forget them. Their stores stay open."""
        began_us, partitions = self._clock_us(), sorted(self.units)
        await self.tick()
        async with self._lock:
            self._lost.clear()
            for p in list(self.units):
                self.units.pop(p).drop()
        if partitions:
            seconds = round((self._clock_us() - began_us) / 1e6, 3)
            logger.info("partitions given up", stage=self.name, partitions=partitions, seconds=seconds)

    def close(self) -> None:
        """Close all stores. Without a last `tick` nothing is lost: the next start counts the records again."""
        for p in list(self.units):
            self.units.pop(p).drop()
        while self._stores:
            self._stores.popitem()[1].close()

    async def _take_over(self, partition: int) -> None:
        """Recover a partition, however long the broker is away."""
        if partition not in self._stores:
            self._stores[partition] = self._open_store(partition)
        while True:
            try:
                return await self._recover(partition, self._stores[partition])
            except Unavailable as error:
                logger.warning("waiting to recover", stage=self.name, partition=partition, reason=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _recover(self, partition: int, store: Store) -> None:
        began_us, tp = self._clock_us(), TP(self.changelog, partition)
        logic = self._new_logic(partition)
        unit = Unit(store, logic, lagging_sink=self.lagging_sink, snapshot_min_bytes=self._snapshot_min_bytes)
        new_replay = partial(Replay, store, logic.outputs, lagging_sink=self.lagging_sink)
        takeover, replay = await take_over(self._log, tp, store, new_replay, self._group, self._clock_us)
        unit.recover(takeover, replay)
        await check_sources(self._log, [TP(topic, partition) for topic in self.topics], unit)
        await self._appends.republish(unit)
        unit.published()
        self._counted(partition, unit.offsets)  # the last epoch may have been made durable without it
        self.units[partition] = unit
        logger.info(
            "partition recovered",
            stage=self.name,
            partition=partition,
            epoch=unit.version[1],
            replayed=replay.records,
            seconds=round((self._clock_us() - began_us) / 1e6, 3),
        )

    # -- runs ----------------------------------------------------------------------------------------------------

    async def process(self, tp: TP, run: Run) -> None:
        """Count one run. Waits while a checkpoint must catch up; never awaits once counting has begun."""
        await self._pace.room()
        unit = self.units.get(tp.partition)
        if unit is None:
            return  # Given up, or being taken over again: the consumer is told where to go on after that.
        try:
            in_order = unit.apply(tp.topic, run)
        except BaseException as error:
            self._fatal(error)
            raise
        if not in_order:
            self._member.seek_now(tp, unit.offsets.get(tp.topic, 0))
            return
        self._counted_ms = run.appended_ms
        self._pace.counted(sum(map(len, run.values)) if self._in_bytes else len(run.values))

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
            await self._pace.end(interval_s, self._is_behind)
            try:
                await self.tick()
            except Exception as error:
                self._fatal(error)
                raise

    def _is_behind(self) -> bool:
        """Whether so much is still to be read, or what is counted is so late, that rows are not in a hurry."""
        now_ms = self._clock_us() // 1000
        if not self.lagging_sink:
            return sum(self.lag().values()) > MAX_PENDING or 0 < self._counted_ms < now_ms - BEHIND_MS
        return any(0 < getattr(unit.logic, "since_ms", 0) < now_ms - LATE_MS for unit in self.units.values())

    async def tick(self) -> None:
        """One checkpoint of all units that changed."""
        async with self._lock:
            await self._retake()
            try:
                offsets = await self._log.offsets([TP(topic, p) for p in self.units for topic in self.topics])
                self._ends = {tp: end for tp, (_, end) in offsets.items()}
            except Unavailable as error:
                logger.warning("no checkpoint", stage=self.name, reason=str(error))
                return
            began_us = self.last_checkpoint_us = self._clock_us()
            frames = self._freeze(self._ends)
            if frames:
                try:
                    await self._make_durable(frames)
                except BaseException:  # Cancelled, say: the fate of these epochs is unknown.
                    for p in frames.keys() & self.units.keys():
                        self._lose(p)
                    raise
                CHECKPOINT_SECONDS.observe((self._clock_us() - began_us) / 1e6)
            await self._commit()
            await self._retake()
        self.on_checkpoint()  # also for what was taken over again: its last rows may wait

    async def _make_durable(self, frames: dict[int, Frame]) -> None:
        """Changelog, fence, store, sinks, in this order; then a piece of the snapshots that are due."""
        bases = await self._appends.own({p: frame.records for p, frame in frames.items()})
        for p, frame in list(frames.items()):
            if await self._appends.is_fenced(p, self.units[p], frame.records, bases[p]):
                self._lose(p)
                del frames[p]
        outputs = [(self.units[p], frame.version, frame.published) for p, frame in frames.items()]
        await asyncio.gather(self._appends.publish(outputs), self._write(frames))
        for p, frame in frames.items():
            self.units[p].published()
            self._counted(p, frame.header.offsets)
        await self._snapshot(frames)

    async def _write(self, frames: Mapping[int, Frame]) -> None:
        """Write the stores, one after the other, so that others get a turn; then the lagging sink can begin."""
        for p, frame in frames.items():
            self.units[p].write(frame)
            await asyncio.sleep(0)
        self.on_checkpoint()

    def _freeze(self, ends: Mapping[TP, int]) -> dict[int, Frame]:
        now_us, frames = self._clock_us(), {}
        for p, unit in self.units.items():
            logic: StageLogic = unit.logic  # type: ignore[assignment]  # made by new_logic
            logic.advance(now_us, {topic: ends[TP(topic, p)] for topic in self.topics})
            if frame := unit.freeze():
                frames[p] = frame
        self._pace.ended()
        return frames

    async def _snapshot(self, frames: Mapping[int, Frame]) -> None:
        """Append pieces of the snapshots that are due, one snapshot after the other: a piece, or as much as the epoch
        had, so that they keep up with the changelog. A complete one lets the head before it go."""
        room = sum(sum(map(len, frame.records)) for frame in frames.values())
        # Of these only: a snapshot begins right after a write, when the store says where the changelog stands.
        for p in sorted(frames, key=lambda p: not self.units[p].in_snapshot):
            unit = self.units[p]
            while room > 0 and (records := unit.snapshot_records()):
                room -= sum(map(len, records))
                if await self._appends.own_fenced(p, unit, records):
                    self._lose(p)
                    break
                if (position := unit.snapshot_appended()) is not None:
                    logger.info("snapshot taken", stage=self.name, partition=p, position=position)
                    await self._appends.cut(p, position)
                    break

    def _lose(self, partition: int) -> None:
        """Drop a partition whole: its durable state is what the changelog says, whoever wrote it."""
        durable = self.units[partition].durable_offsets
        self._lost[partition] = {TP(topic, partition): durable.get(topic, 0) for topic in self.topics}
        self.units.pop(partition).drop()

    async def _retake(self) -> None:
        """Take lost partitions over again, if the group says that they are still ours."""
        for p, offsets in list(self._lost.items()):
            try:
                mine = await self._member.still_mine(offsets)
            except Unavailable as error:
                logger.warning("the group is silent", stage=self.name, partition=p, reason=str(error))
                return
            del self._lost[p]
            if not mine:
                logger.warning("partition lost to another worker", stage=self.name, partition=p)
                continue
            logger.warning("partition fenced, taking it over again", stage=self.name, partition=p)
            await self._take_over(p)
            for topic in self.topics:
                self._member.seek_now(TP(topic, p), self.units[p].offsets.get(topic, 0))

    def _counted(self, partition: int, offsets: Mapping[str, int]) -> None:
        """Have the next offsets of a partition's source topics committed with the checkpoint that is under way."""
        self._hints |= {TP(topic, partition): offset for topic, offset in offsets.items()}

    async def _commit(self) -> None:
        """For lag tools and the audit: recovery does not trust it."""
        if self._hints:
            hints, self._hints = self._hints, {}
            await self._member.commit_hint(hints)
