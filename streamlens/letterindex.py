"""Follows the dead letters' topic, and keeps the index of it in Postgres that questions and replays stand on.

Rows and position are put in one transaction, and a letter has one name: so none is missed, and each is there once,
also when two workers follow one partition for a while.
"""

import asyncio
from collections.abc import Callable, Collection

import asyncpg
import structlog

from streamlens.deadletters import Letter, decode_letter
from streamlens.errors import Unavailable
from streamlens.events import time_us
from streamlens.log import TP, Log
from streamlens.postgres import letters
from streamlens.topics import DEAD_LETTERS, SOURCES

logger = structlog.get_logger()

EVERY_S = 0.5
READ_BYTES = 256 << 10
"""Of a partition each time, or one letter: a flood of bad events must not cost the good ones their time."""
_RETRY_S = 2.0
_BROKEN_RETRY_S = 30.0


class LetterIndex:
    """Of the partitions that this worker has just now. `log` has the topic, `pool` the index."""

    def __init__(self, log: Log, pool: asyncpg.Pool, partitions: Callable[[], Collection[int]]) -> None:
        self._log = log
        self._pool = pool
        self._partitions = partitions
        self._positions: dict[int, int | None] = {}
        self._starts: dict[int, int] = {}

    async def run(self) -> None:
        """Follow for ever. What goes wrong here stops no event: it is said, and tried again."""
        while True:
            try:
                await self.follow()
                pause_s = EVERY_S
            except (Unavailable, asyncpg.UndefinedTableError):  # away; or back, and about to be migrated
                pause_s = _RETRY_S
            except Exception:
                logger.exception("dead letters are not indexed", retry_after_s=_BROKEN_RETRY_S)
                pause_s = _BROKEN_RETRY_S
            if pause_s > EVERY_S:
                self._positions.clear()
            await asyncio.sleep(pause_s)

    async def follow(self) -> None:
        """Take some of what is new in each partition. Raises `Unavailable`."""
        tps = [TP(DEAD_LETTERS, partition) for partition in sorted(self._partitions())]
        for tp, (start, end) in (await self._log.offsets(tps)).items() if tps else ():
            await self._follow(tp, start, end)

    async def _follow(self, tp: TP, start: int, end: int) -> None:
        partition = tp.partition
        if partition not in self._positions:
            self._positions[partition] = await letters.position(self._pool, partition)
        if start > self._starts.get(partition, 0) and await letters.forget(self._pool, partition, start):
            self._starts[partition] = start
        was = self._positions[partition]
        begin = start if was is None else was
        if not start <= begin <= end:  # behind by more than the retention; or the topic was cut
            logger.warning("index of dead letters goes on elsewhere", partition=partition, was=was, now=start)
            begin = start
        if begin == end and was in (None, begin):
            return
        run = await self._log.read(tp, begin, READ_BYTES)
        found = {}
        for offset, record in enumerate(run.values, run.first):
            letter = decode_letter(record)
            if letter is not None and _is_ours(letter, partition):
                found[offset] = letter
        await letters.put(self._pool, partition, found.items(), run.next)
        self._positions[partition] = run.next


def _is_ours(letter: Letter, partition: int) -> bool:
    is_place = letter.topic in SOURCES and letter.partition == partition and 0 <= letter.offset < 1 << 63
    return is_place and time_us(letter.time) >= 0
