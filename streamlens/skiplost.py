"""Lets a partition go on whose source has deleted records that were not counted yet: by an explicit command alone.

What is lost is written down beside the ledger, so that `streamlens audit` tells of it instead of missing it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import msgspec
import structlog

from streamlens.checkpoint.appends import Appends, StageLogic
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.stage import Stage
from streamlens.checkpoint.store import Store
from streamlens.checkpoint.takeover import skip_lost, take_over
from streamlens.checkpoint.unit import Unit
from streamlens.errors import Unavailable
from streamlens.log import TP, Log

logger = structlog.get_logger()


class Skipper(msgspec.Struct, frozen=True):
    """Skips what is lost in the partitions of a log. No worker may own one that is skipped in: it is fenced."""

    log: Log
    group: str
    open_store: Callable[[str, int], Store]
    """By the stage's name and the partition."""
    new_logic: Mapping[str, Callable[[int], StageLogic]]
    """By the stage's name."""
    record: Callable[[Mapping[TP, range]], Awaitable[None]]
    """Awaited with the lost offsets, before anything goes on without them."""
    clock_us: Callable[[], int]

    async def skip(self, stage: Stage, partitions: int) -> dict[TP, range]:
        """The lost offsets of a stage's source partitions, after which it will read on.

        Raises `Damaged` and `Unavailable`; it can be called again then.
        """
        sources = [TP(topic, p) for topic in stage.topics for p in range(partitions)]
        read, offsets = await self.log.committed(self.group), await self.log.offsets(sources)
        # The committed offset is never above what is counted, so a partition without a loss by it has none.
        suspects = sorted({tp.partition for tp in sources if read.get(tp, 0) < offsets[tp][0]})
        lost: dict[TP, range] = {}
        for partition in suspects:
            lost |= await self._skip(stage, partition)
        return lost

    async def _skip(self, stage: Stage, partition: int) -> dict[TP, range]:
        store = self.open_store(stage.name, partition)
        try:
            return await self._skip_in(stage, partition, store)
        finally:
            store.close()

    async def _skip_in(self, stage: Stage, partition: int, store: Store) -> dict[TP, range]:
        logic, appends = self.new_logic[stage.name](partition), Appends(self.log, stage.changelog)
        unit = Unit(store, logic, lagging_sink=stage.lagging_sink)
        new_replay = partial(Replay, store, logic.outputs, lagging_sink=stage.lagging_sink)
        changelog = TP(stage.changelog, partition)
        takeover, replay = await take_over(self.log, changelog, store, new_replay, self.group, self.clock_us)
        unit.recover(takeover, replay)
        lost = await skip_lost(self.log, [TP(topic, partition) for topic in stage.topics], unit)
        if not lost:
            return {}
        await appends.republish(unit)
        unit.published()
        await self.record(lost)
        frame = unit.freeze()
        assert frame is not None, "the offsets have changed"
        # The changelog is enough: the next takeover brings the store up to date from it.
        bases = await appends.own({partition: frame.records})
        if await appends.is_fenced(partition, unit, frame.records, bases[partition]):
            raise Unavailable(f"{changelog.topic} partition {partition} was taken over meanwhile: stop the workers")
        for tp, offsets in lost.items():
            span = {"first": offsets.start, "next": offsets.stop, "records": len(offsets)}
            logger.warning("lost records skipped", topic=tp.topic, partition=tp.partition, **span)
        with suppress(Unavailable):  # a hint for the audit; the next checkpoint commits it
            await self.log.commit(self.group, {tp: offsets.stop for tp, offsets in lost.items()})
        return lost


def total(lost: Mapping[TP, range], topics: Sequence[str]) -> int:
    """How many offsets were lost in these topics."""
    return sum(len(offsets) for tp, offsets in lost.items() if tp.topic in topics)
