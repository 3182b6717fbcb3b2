"""One who listens to changed rows: what waits for it is bounded, and who takes it too slowly is told to begin anew."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec
import orjson

QUEUE_BYTES = 1 << 20
"""What may wait; beyond, it is dropped, and `resync` told instead."""


class Event(msgspec.Struct, frozen=True):
    """Something to tell. `name`: rows, resync (begin anew: rows were left out), stale (with a reason), fresh (no longer
    stale), or "": only the position. `data`: JSON in one line. `position`: where to go on after it; "": with a later
    one."""

    name: str
    data: bytes = b"{}"
    position: str = ""


def rows(found: Sequence[bytes], position: str = "") -> Event:
    """The rows are JSON already."""
    return Event("rows", b'{"metrics":[' + b",".join(found) + b"]}", position)


def resync(reason: str, position: str) -> Event:
    return Event("resync", orjson.dumps({"reason": reason}), position)


def stale(reason: str) -> Event:
    return Event("stale", orjson.dumps({"reason": reason}))


class Source(Protocol):
    """Where events come from (`streamlens.live`)."""

    @property
    def position(self) -> str:
        """Up to where it has told."""

    def missed(self, since: str, until: str, tenant_id: str | None) -> AsyncIterator[Event]:
        """What it has told between two positions, or `resync`."""


class Listener:
    """Of a tenant's rows, or of all (`tenant_id` None). `since`: the position with which it came back, or ""."""

    def __init__(self, source: Source, tenant_id: str | None, since: str) -> None:
        self.tenant_id = tenant_id
        self.since = since
        self.start = source.position
        """From where on it is told what happens."""
        self.ended = False
        """The process stops."""
        self._source = source
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._overrun = False
        self._woken = asyncio.Event()

    async def missed(self) -> AsyncIterator[Event]:
        """What happened between `since` and `start`. Before anything is taken."""
        if self.since:
            async for event in self._source.missed(self.since, self.start, self.tenant_id):
                yield event

    def put(self, event: Event) -> None:
        """Let an event wait for `take`."""
        if not self._overrun:
            self._events.append(event)
            self._bytes += len(event.data)
            if self._bytes > QUEUE_BYTES:
                self._events.clear()
                self._bytes, self._overrun = 0, True
        self._woken.set()

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._woken.set()

    async def take(self, within_s: float) -> Event | None:
        """The next event; None when there was none in that time, or it has ended."""
        if not (self._events or self._overrun or self.ended):
            self._woken.clear()
            try:
                async with asyncio.timeout(within_s):
                    await self._woken.wait()
            except TimeoutError:
                return None
        if self._overrun:
            self._overrun = False
            return resync("the rows were taken too slowly", self._source.position)
        if not self._events:
            return None
        event = self._events.popleft()
        self._bytes -= len(event.data)
        return event

    @property
    def position(self) -> str:
        """Where to go on after what was taken, though nothing of it was for this one; "" while events wait."""
        return "" if self._events or self._overrun else self._source.position
