"""What a stage says to the log: its changelog's records and fences, and the rows that it publishes."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from streamlens.checkpoint.frames import Version
from streamlens.checkpoint.takeover import read_gap
from streamlens.checkpoint.unit import Logic, Unit
from streamlens.errors import Unavailable
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Record

logger = structlog.get_logger()

_RETRY_S = 0.2


class StageLogic(Logic, Protocol):
    """A logic that publishes to topics and follows the time."""

    def advance(self, now_us: int, ends: Mapping[str, int]) -> None:
        """Move the watermark, before a checkpoint: `ends` are the source topics' end offsets, just fetched."""

    def render(self, key: bytes, value: bytes, version: Version) -> Iterable[tuple[TP, Record]]:
        """The records that publish one output."""


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

    async def cut(self, partition: int, position: int) -> None:
        """Let the changelog's head go."""
        try:
            await self._log.delete_before(TP(self._changelog, partition), position)
        except Unavailable as error:  # The next snapshot's cut takes these records along.
            logger.warning("changelog not cut", topic=self._changelog, partition=partition, error=str(error))

    async def publish(self, outputs: Iterable[tuple[Unit, bytes, bytes | None, Version]]) -> None:
        """Publish until acknowledged. Rows are absolute and versioned, so a repetition changes nothing."""
        batches: dict[TP, list[Record]] = {}
        for unit, key, value, version in outputs:
            assert value is not None, "an output is deleted only after it was published"
            logic: StageLogic = unit.logic  # type: ignore[assignment]  # a stage's units have a stage's logic
            for tp, record in logic.render(key, value, version):
                batches.setdefault(tp, []).append(record)
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
