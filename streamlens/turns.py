"""Whose turn it is on the event loop: counting can wait in the log, so what clients wait for comes first."""

import asyncio
from collections.abc import Callable
from time import perf_counter

MAX_LAG = 500_000
"""With more records to count, counting waits for nobody, so that what is accepted slows down."""

_MOST_S = 0.05
"""A run waits no longer than that: counting always goes on."""
_IDLE_S = 0.000_3
"""A turn of the loop that took less had nothing to do."""
_IDLE_TURNS = 3
"""So many in a row: a request that goes from one task to the next may have nothing to do in between."""


_waiting = 0


def came() -> None:
    """A client waits until what it has sent is durable."""
    global _waiting
    _waiting += 1


def went() -> None:
    """It does not wait any more."""
    global _waiting
    _waiting -= 1


async def idle(lag: Callable[[], int], clock_s: Callable[[], float] = perf_counter) -> None:
    """While clients wait, wait until the event loop has nothing else to do: `_MOST_S` at most, and not when `lag()` is
    above `MAX_LAG`."""
    if not _waiting:
        return
    now = clock_s()
    until, left = now + _MOST_S, _IDLE_TURNS
    while left and now < until:
        await asyncio.sleep(0)
        began, now = now, clock_s()
        if now - began < _IDLE_S:
            left -= 1
        elif lag() > MAX_LAG:
            return
        else:
            left = _IDLE_TURNS
