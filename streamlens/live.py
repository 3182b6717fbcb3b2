"""The rows that change, as they change: one task follows `llm.metrics` for all who listen, and none while nobody does.

The topic has each revision of each row, whichever worker has made it, so listening costs stages and Postgres nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b

import msgspec
import structlog

from streamlens.errors import StreamLensError, Unavailable
from streamlens.listener import Event, Listener, resync, rows, stale
from streamlens.log import TP, Log
from streamlens.topics import METRICS

logger = structlog.get_logger()

EVERY_S = 0.2
MOST_LISTENERS = 200
MOST_OF_TENANT = 50
"""So that one tenant does not take all the room."""
MOST_MISSED = 2_000
"""So many records are read again for one who comes back; who has missed more begins anew."""
MOST_BEHIND = 20_000
"""Records of a partition. Further behind, the task goes on at the end, and all who listen begin anew."""
READ_BYTES = 256 << 10
"""Of a partition at a time."""

_RETRY_S = 1.0
_LOG_AWAY = "the log does not answer: no rows come"
_POSTGRES_AWAY = "Postgres is away: rows come, and all other answers are older"


class _Row(msgspec.Struct, frozen=True, gc=False):
    tenant_id: str


_decode_row = msgspec.json.Decoder(_Row).decode


class Live:
    """`log_id` names the log in positions; `postgres_away` says whether rows don't reach Postgres."""

    def __init__(self, log: Log, log_id: str, partitions: int, postgres_away: Callable[[], bool]) -> None:
        self._log = log
        self._mark = blake2b(log_id.encode(), digest_size=4).hexdigest()
        self._tps = [TP(METRICS, partition) for partition in range(partitions)]
        self._postgres_away = postgres_away
        self._listeners: set[Listener] = set()
        self._at = [0] * partitions
        self._trouble = ""
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def position(self) -> str:
        """Up to where rows were told: the log's mark, and an offset a partition."""
        return self._written(self._at)

    @asynccontextmanager
    async def listen(self, tenant_id: str | None, since: str = "") -> AsyncIterator[Listener]:
        """Listen until the block ends. Raises `Unavailable`, also when too many do already."""
        async with self._starting:
            self._admit(tenant_id)
            if self._task is None:
                ends = await self._log.offsets(self._tps)
                self._admit(tenant_id)  # it may stop by now
                self._at, self._trouble = [ends[tp][1] for tp in self._tps], ""
                self._task = asyncio.create_task(self._follow())
            listener = Listener(self, tenant_id, since)
            self._listeners.add(listener)
        if self._trouble:
            listener.put(stale(self._trouble))
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    def close(self) -> None:
        """The process stops: who listens is told at once, and nobody new may."""
        self._closed = True
        for listener in self._listeners:
            listener.end()

    def _admit(self, tenant_id: str | None) -> None:
        if self._closed:
            raise Unavailable("stopping")
        same = sum(each.tenant_id == tenant_id for each in self._listeners)
        if len(self._listeners) >= MOST_LISTENERS or (tenant_id is not None and same >= MOST_OF_TENANT):
            raise Unavailable("too many listen already", retry_after_s=10)

    # -- what happens --------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            pause_s = EVERY_S
            try:
                if await self._look():
                    pause_s = 0
                trouble = _POSTGRES_AWAY if self._postgres_away() else ""
            except StreamLensError:  # it is away; or was cut where we read, which the next look sees
                pause_s, trouble = _RETRY_S, _LOG_AWAY
            except Exception:
                logger.exception("changed rows are not told", retry_after_s=_RETRY_S)
                pause_s, trouble = _RETRY_S, _LOG_AWAY
            if trouble != self._trouble:
                self._trouble = trouble
                self._tell(stale(trouble) if trouble else Event("fresh"))
            await asyncio.sleep(pause_s)

    async def _look(self) -> bool:
        """Tell some of what is new in each partition; whether there is more."""
        more = False
        offsets = await self._log.offsets(self._tps)
        for number, tp in enumerate(self._tps):
            (start, end), at = offsets[tp], self._at[number]
            if not max(start, end - MOST_BEHIND) <= at <= end:
                self._at[number] = end
                self._tell(resync("there were too many rows", self.position))
            elif at < end:
                run = await self._log.read(tp, at, READ_BYTES)
                self._at[number] = run.next
                self._tell_rows(run.values)
                more |= run.next < end
        return more

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener.put(event)

    def _tell_rows(self, values: Iterable[bytes]) -> None:
        found: dict[str | None, list[bytes]] = {listener.tenant_id: [] for listener in self._listeners}
        for tenant_id, value in _owned(values):
            for wanted in (tenant_id, None):
                if wanted in found:
                    found[wanted].append(value)
        position = self.position
        events = {tenant_id: rows(each, position) for tenant_id, each in found.items() if each}
        for listener in self._listeners:
            if (event := events.get(listener.tenant_id)) is not None:
                listener.put(event)

    # -- what one has missed -------------------------------------------------------------------------------------

    async def missed(self, since: str, until: str, tenant_id: str | None) -> AsyncIterator[Event]:
        """The rows between two positions, and then `until`; `resync` where they are gone, too many, or another log's.

        They are not all in memory at a time.
        """
        first, last = self._read(since), self._read(until)
        assert last is not None, "a position of ours"
        if first is None or any(map(int.__gt__, first, last)) or sum(last) - sum(first) > MOST_MISSED:
            yield resync("too much was missed", until)
            return
        try:
            for tp, at, end in zip(self._tps, first, last, strict=True):
                while at < end:
                    run = await self._log.read(tp, at, READ_BYTES)
                    at = run.next
                    if found := [value for own, value in _owned(run.values) if tenant_id in (None, own)]:
                        yield rows(found)
        except StreamLensError:  # it is away, or has deleted them
            yield resync("what was missed can't be read", until)
            return
        yield Event("", position=until)

    def _written(self, offsets: Sequence[int]) -> str:
        return ".".join((self._mark, *map(str, offsets)))

    def _read(self, position: str) -> list[int] | None:
        """The offsets in a position; None unless it is one of this log."""
        mark, *offsets = position.split(".")
        if mark != self._mark or len(offsets) != len(self._tps):
            return None
        if not all(offset.isascii() and offset.isdigit() and len(offset) < 20 for offset in offsets):
            return None
        return list(map(int, offsets))


def _owned(values: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Rows with their tenants. Whoever writes to the topic besides us can't break the lines of a stream."""
    for value in values:
        if b"\n" not in value and b"\r" not in value:
            try:
                yield _decode_row(value).tenant_id, value
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
