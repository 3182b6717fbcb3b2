"""What a stage says to the log: its changelog's records and fences, and the rows that it publishes."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Protocol

import structlog

from streamlens.checkpoint.frames import Version
from streamlens.checkpoint.takeover import read_gap
from streamlens.checkpoint.unit import Logic, Unit
from streamlens.errors import Unavailable
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Record

logger = structlog.get_logger()

_RETRY_S = 0.2
_PIECE_BYTES = 2 << 20
"""Published at once: some thousands of rows, which take a tenth of a second to render."""


class StageLogic(Logic, Protocol):
    """A logic that publishes to topics and follows the time."""

    def advance(self, now_us: int, ends: Mapping[str, int]) -> None:
        """Move the watermark, before a checkpoint: `ends` are the source topics' end offsets, just fetched."""

    def render(self, outputs: Iterable[tuple[bytes, bytes]], version: Version) -> Iterator[tuple[TP, Record]]:
        """The records that publish the outputs of one epoch, keys and values; those of a topic partition in order."""


class Appends:
    """The appends of one stage. A broker that is away costs time or a new takeover, never an exception."""

    def __init__(self, log: Log, changelog: str) -> None:
        self._log = log
        self._changelog = changelog

    async def own(self, records: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        """Append to the changelog partitions that this process' units own; the base offsets by partition."""
        bases = await self._append(
            {TP(self._changelog, p): [Record(None, part) for part in parts] for p, parts in records.items()}
        )
        return {tp.partition: base for tp, base in bases.items()}

    async def is_fenced(self, partition: int, unit: Unit, records: Sequence[bytes], base: int) -> bool:
        """Whether the partition was lost, judged after the append of `records`; also when nobody can tell."""
        try:
            between = await read_gap(self._log, TP(self._changelog, partition), unit.gap(base))
        except Unavailable:
            return True
        return unit.fenced(records, base, between)

    async def own_fenced(self, partition: int, unit: Unit, records: Sequence[bytes]) -> bool:
        """Append to one partition; whether it was lost."""
        return await self.is_fenced(partition, unit, records, (await self.own({partition: records}))[partition])

    async def cut(self, partition: int, position: int) -> None:
        """Let the changelog's head go."""
        try:
            await self._log.delete_before(TP(self._changelog, partition), position)
        except Unavailable as error:  # The next snapshot's cut takes these records along.
            logger.warning("changelog not cut", topic=self._changelog, partition=partition, error=str(error))

    async def publish(self, epochs: Iterable[tuple[Unit, Version, Iterable[tuple[bytes, bytes]]]]) -> None:
        """Publish outputs, keys and values, until acknowledged; a piece at a time, so that others get a turn.

        Rows are absolute and versioned, so a repetition changes nothing.
        """
        batches: dict[TP, list[Record]] = {}
        size = 0
        for unit, version, outputs in epochs:
            logic: StageLogic = unit.logic  # type: ignore[assignment]  # a stage's units have a stage's logic
            for tp, record in logic.render(outputs, version):
                batches.setdefault(tp, []).append(record)
                size += len(record.value)
                if size >= _PIECE_BYTES:
                    await self._publish(batches)
                    batches, size = {}, 0
        await self._publish(batches)

    async def republish(self, unit: Unit) -> None:
        """After a takeover: the outputs of the last epoch once more, under their stored version."""
        get = unit.state.store.get
        last = groupby(unit.unpublished().items(), key=itemgetter(1))
        await self.publish((unit, version, [(key, _present(get(key))) for key, _ in keys]) for version, keys in last)

    async def _publish(self, batches: Mapping[TP, Sequence[Record]]) -> None:
        while batches:
            bases = await self._append(batches)
            batches = {tp: batch for tp, batch in batches.items() if bases[tp] == UNKNOWN_OFFSET}
            if batches:
                await asyncio.sleep(_RETRY_S)

    async def _append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        try:
            return await self._log.append(batches)
        except Unavailable:
            return dict.fromkeys(batches, UNKNOWN_OFFSET)


def _present(value: bytes | None) -> bytes:
    assert value is not None, "an output is deleted only after it was published"
    return value
