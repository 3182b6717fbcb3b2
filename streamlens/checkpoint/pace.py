"""When an epoch ends: after an interval, a longer one far behind, shorter ones after a takeover, at once when full."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

MAX_PENDING = 100_000
"""Records of one epoch, over all units of a stage, from which on agents wait for the checkpoint."""

MAX_PENDING_BYTES = 8 << 20
"""Where records hold many rows, epochs are bounded by their bytes: they are held in memory several times over."""

_SHORT_EPOCHS = 5
"""So many epochs after a takeover are as many times shorter: what waited meanwhile is seen soon. Far behind only the
first is: rows that change all the time would be written in each."""

LATE_MS = 5_000
"""Rows of events that have waited so long may wait for the rest of them."""

BEHIND_MS = 2_000
"""What is counted now has waited so long: events wait in the log, and rows that change all the time hold them up."""

_INTERVALS_BEHIND = 8
"""Far behind an epoch is longer, up to this: rows that change all the time are written less often."""

_BURST_S = 0.05
"""So long after the first of them the partials of an epoch of stage one are all there."""

_PAUSE = 0.8
"""Of an interval: the least time between two epochs of a stage that follows. Bursts of several workers share one."""


class Pace:
    """Of one stage, whose epochs have `max_pending` records at most (or bytes, if that is counted), or a run more."""

    def __init__(self, max_pending: int = MAX_PENDING, *, follows: bool = False) -> None:
        """`follows`: what this stage reads comes in bursts, as epochs of the stage before it. So its own end soon after
        one, and not at any time up to the next."""
        self._max_pending = max_pending
        self._follows = follows
        self._pending, self._came = 0, asyncio.Event()
        self._short = 0
        self._ended_s = self._came_s = time.monotonic()
        self._room, self._full = asyncio.Event(), asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Wait until records can be counted."""
        await self._room.wait()

    def counted(self, more: int) -> None:
        """So many more records, or bytes, are in this epoch."""
        if not self._pending:
            self._came_s = time.monotonic()
        self._came.set()
        self._pending += more
        if self._pending >= self._max_pending:
            self._room.clear()
            self._full.set()

    def taken_over(self) -> None:
        """Partitions have come whose rows stood still."""
        self._short = _SHORT_EPOCHS

    def ended(self) -> None:
        """A new epoch begins."""
        if self._pending:
            self._ended_s = time.monotonic()
        self._pending = 0
        self._came.clear()
        self._full.clear()
        self._room.set()

    async def end(self, interval_s: float, is_behind: Callable[[], bool]) -> None:
        """Wait until the epoch is to end: after an interval, or when a burst is there.

        It may be a longer one while `is_behind` and more and more is counted.
        """
        intervals = _INTERVALS_BEHIND
        if 0 < self._short < _SHORT_EPOCHS and is_behind():
            self._short = 0
        if self._short:
            self._short -= 1
            interval_s, intervals = interval_s / _SHORT_EPOCHS, 1
        left_s = interval_s
        if self._follows:
            await _within(self._came, 2 * interval_s)
            left_s = max(self._ended_s + _PAUSE * interval_s, self._came_s + _BURST_S) - time.monotonic()
        for _ in range(intervals):
            await _within(self._full, left_s)
            came = self._came.is_set()
            self._came.clear()
            if self._full.is_set() or not came or not is_behind():
                break
            left_s = interval_s


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, no longer than that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
