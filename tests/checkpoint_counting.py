"""A toy stage for the checkpoint's tests: windows of ten ticks, joins by id, duplicates, late events, a ledger.

A row's content is the list of the ids of its events, so "counted exactly once" can be checked literally.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from streamlens.checkpoint.state import State
from streamlens.log import Run

CLOSED = b"#closed"
CLEAR = 1_000_000
"""A lateness that nothing exceeds: what is counted where then no longer depends on how topics interleave."""


class Event(msgspec.Struct, frozen=True, array_like=True):
    """`kind`: "c" a call that is complete, "q" a request, "r" its response; joined and deduplicated by `rid`."""

    uid: int
    kind: str
    rid: str
    ts: int


class Watch(msgspec.Struct, array_like=True):
    """What is kept in memory between epochs, and as the epoch's header in the changelog."""

    watermark: int
    closed: int
    newest: dict[str, int]


class Half(msgspec.Struct, frozen=True, array_like=True):
    """A request or response that waits for the other."""

    kind: str
    ts: int
    uid: int


encode = msgspec.json.encode
_decode_event = msgspec.json.Decoder(Event).decode
_decode_half = msgspec.json.Decoder(Half).decode
_decode_row = msgspec.json.Decoder(list[int]).decode
_decode_watch = msgspec.json.Decoder(Watch).decode


def window_key(window: int) -> bytes:
    return b"W%04d" % window


ROWS = b"WL#"
"""First bytes of what is published: windows, rows of the ledger, the announcement of closed windows."""


class Counting:
    """A `Logic`. `lateness`: ticks past a window's end during which it still counts; its row expires after that."""

    outputs = ROWS

    def __init__(self, topics: Sequence[str], lateness: int) -> None:
        self._topics = topics
        self._lateness = lateness

    def open(self, state: State, header: bytes, offsets: Mapping[str, int]) -> None:
        self._state = state
        self._watch = _decode_watch(header) if header else Watch(0, -1, dict.fromkeys(self._topics, 0))
        self._announced = self._watch.closed
        self._changed: set[bytes] = set()

    def apply(self, topic: str, run: Run) -> None:
        for value in run.values:
            event = _decode_event(value)
            self._count(event)
            self._watch.newest[topic] = max(self._watch.newest[topic], event.ts)
            self._advance(min(self._watch.newest.values()))

    def idle(self) -> None:
        """The sources are silent: the watermark follows the clock. Another worker may well decide otherwise."""
        self._advance(max(self._watch.newest.values()) + 20)

    def flush(self) -> bytes:
        self._expire()
        self._changed.clear()
        if self._watch.closed != self._announced:
            # Inserted last, so published last: who reads it has all that the closed windows hold.
            self._state.put(CLOSED, encode([self._watch.closed]))
            self._announced = self._watch.closed
        return encode(self._watch)

    # -- inside --------------------------------------------------------------------------------------------------

    def _count(self, event: Event) -> None:
        uid, kind, rid, ts = event.uid, event.kind, event.rid.encode(), event.ts
        raw = self._state.get(b"P" + rid)
        half = None if raw is None else _decode_half(raw)
        if self._late_from(ts) <= self._watch.watermark:
            self._add(b"Llate", uid)
        elif self._state.get(b"M" + rid) is not None or (half is not None and half.kind == kind):
            self._add(b"Lduplicate", uid)
        elif kind == "c":
            self._add(window_key(ts // 10), uid)
            self._mark(rid, ts)
        elif half is None:
            self._state.put(b"P" + rid, encode(Half(kind, ts, uid)))
            self._add(b"Lpending", uid)
        else:
            self._state.delete(b"P" + rid)
            self._take(b"Lpending", half.uid)
            window = window_key((ts if kind == "q" else half.ts) // 10)
            self._add(window, uid)
            self._add(window, half.uid)
            self._mark(rid, max(ts, half.ts))

    def _mark(self, rid: bytes, ts: int) -> None:
        self._state.put(b"M" + rid, encode(self._mark_until(ts)))

    def _mark_until(self, ts: int) -> int:
        """A duplicate is recognised for as long as it would not be late."""
        return self._late_from(ts)

    def _late_from(self, ts: int) -> int:
        """The watermark from which an event of this time is late, and its window's row may expire."""
        return ts // 10 * 10 + 10 + self._lateness

    def _advance(self, watermark: int) -> None:
        if watermark <= self._watch.watermark:
            return
        self._watch.watermark = watermark
        for key, value in list(self._state.scan(b"P", b"Q")):
            half = _decode_half(value)
            if self._late_from(half.ts) <= watermark:  # Else it could be joined into a row that has expired.
                self._state.delete(key)
                self._take(b"Lpending", half.uid)
                self._add(b"Lorphaned", half.uid)
        for key, value in list(self._state.scan(b"M", b"N")):
            if int(value) <= watermark:
                self._state.delete(key)
        self._watch.closed = max(self._watch.closed, watermark // 10 - 1)

    def _expire(self) -> None:
        for key, _ in list(self._state.scan(b"W", b"X")):
            if self._late_from(int(key[1:]) * 10) <= self._watch.watermark and self._may_go(key):
                self._state.delete(key)

    def _may_go(self, key: bytes) -> bool:
        """A row goes only once all sinks have it: not in the epoch that changed it, not while one waits for it."""
        return key not in self._changed and not self._state.is_waiting(key)

    def _add(self, key: bytes, uid: int) -> None:
        self._put(key, [*self._row(key), uid])

    def _take(self, key: bytes, uid: int) -> None:
        self._put(key, [other for other in self._row(key) if other != uid])

    def _row(self, key: bytes) -> list[int]:
        raw = self._state.get(key)
        return [] if raw is None else _decode_row(raw)

    def _put(self, key: bytes, uids: list[int]) -> None:
        self._state.put(key, encode(sorted(uids)))
        self._changed.add(key)


def ids(rows: Mapping[bytes, bytes]) -> list[int]:
    """The ids of all events in these rows."""
    return sorted(uid for key, value in rows.items() if key != CLOSED for uid in _decode_row(value))


def oracle(sources: Mapping[str, Iterable[Event]]) -> dict[bytes, bytes]:
    """The rows of traffic that is never late, worked out without streams. An id is of one call or of one join."""
    rows: dict[bytes, list[int]] = {}
    first: dict[tuple[str, str], Event] = {}
    for events in sources.values():
        for event in events:
            if first.setdefault((event.rid, event.kind), event) is not event:
                rows.setdefault(b"Lduplicate", []).append(event.uid)
    for (rid, kind), event in first.items():
        request = event if kind == "c" else first.get((rid, "q"))
        whole = kind == "c" or (rid, "r" if kind == "q" else "q") in first
        key = window_key(request.ts // 10) if whole and request else b"Lpending"
        rows.setdefault(key, []).append(event.uid)
    return {key: encode(sorted(uids)) for key, uids in rows.items()}
