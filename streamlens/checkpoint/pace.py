"""When an epoch ends: after an interval, a longer one far behind, shorter ones after a takeover, at once when full."""

import asyncio
from contextlib import suppress

MAX_PENDING = 100_000
"""Records of one epoch, over all units of a stage, from which on agents wait for the checkpoint."""

MAX_PENDING_ROWS = 50_000
"""The same where each record may change a row of its own: epochs are held in memory several times over."""

_SHORT_EPOCHS = 5
"""So many epochs after a takeover are as many times shorter: what waited meanwhile is seen soon."""

_INTERVALS_BEHIND = 4
"""With that many records still to read, an epoch is longer: rows that change all the time are written less often."""


class Pace:
    """Of one stage, whose epochs have `max_pending` records at most, or a run more."""

    def __init__(self, max_pending: int = MAX_PENDING) -> None:
        self._max_pending = max_pending
        self._pending = 0
        self._short = 0
        self._room, self._full = asyncio.Event(), asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Wait until records can be counted."""
        await self._room.wait()

    def counted(self, records: int) -> None:
        """So many more records are in this epoch."""
        self._pending += records
        if self._pending >= self._max_pending:
            self._room.clear()
            self._full.set()

    def taken_over(self) -> None:
        """Partitions have come whose rows stood still."""
        self._short = _SHORT_EPOCHS

    def ended(self) -> None:
        """A new epoch begins."""
        self._pending = 0
        self._full.clear()
        self._room.set()

    async def end(self, interval_s: float, behind: int) -> None:
        """Wait until the epoch is to end; `behind` is how many records are still to be read."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.next_s(interval_s, behind)):
                await self._full.wait()

    def next_s(self, interval_s: float, behind: int) -> float:
        """How long the next epoch may last, by the clock."""
        if self._short:
            self._short -= 1
            return interval_s / _SHORT_EPOCHS
        return interval_s * (_INTERVALS_BEHIND if behind > self._max_pending else 1)
