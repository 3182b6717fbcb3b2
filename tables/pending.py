"""Halves of calls that wait for their other half, and marks of ids that are joined: the table of the join.

Keys: b"h" + request id -> the half; b"m" + request id -> the latest window seen under a joined id, 4 bytes.
All waiting halves are in memory too; the state holds those that outlived an epoch.
"""

from collections.abc import Iterable, Iterator

from streamlens.checkpoint.state import State
from streamlens.join import Half, decode_half, encode_half

_HALF, _HALF_END = b"h", b"i"
_MARK, _MARK_END = b"m", b"n"
_SWEPT_AT_LEAST = 1_000
_NEVER = 1 << 32


class Pending:
    """Which request ids wait, and which are done."""

    def __init__(self) -> None:
        self._state: State
        self._new: dict[str, Half] = {}
        self._stored: dict[str, Half] = {}
        self._gone: list[str] = []
        self._marks: dict[str, int] = {}
        self.expired = -1
        """The last window whose events are late, and whose marks mean nothing any more."""
        self._cursor = _MARK
        self._oldest = 0  # the lowest window of a mark in the store, as far as it is known
        self._lap_oldest = _NEVER

    def open(self, state: State) -> None:
        self._state = state
        self._stored = {key[1:].decode(): decode_half(raw) for key, raw in state.scan(_HALF, _HALF_END)}

    def __len__(self) -> int:
        return len(self._new) + len(self._stored)

    def get(self, request_id: str) -> Half | None:
        """The half that waits under an id."""
        half = self._new.get(request_id)
        return half if half is not None else self._stored.get(request_id)

    def add(self, request_id: str, half: Half) -> None:
        """Have a half wait. It is new, neither booked nor written, until the next `flush`."""
        self._new[request_id] = half

    def take(self, request_id: str) -> bool:
        """Remove the half that waits under an id; True if it is new."""
        if self._new.pop(request_id, None) is not None:
            return True
        del self._stored[request_id]
        self._gone.append(request_id)
        return False

    def mark(self, request_id: str, window: int) -> None:
        """Remember a joined id until its window has expired."""
        self._marks[request_id] = window

    def repeats(self, request_id: str, window: int) -> bool:
        """Whether an id is joined already; then it is remembered until the latest event under it expires."""
        marked = self._marks.get(request_id)
        if marked is None:
            raw = self._state.get(_MARK + request_id.encode())
            if raw is None:
                return False
            marked = int.from_bytes(raw, "big")
        if marked <= self.expired:  # it may still be there
            return False
        if window > marked:
            self.mark(request_id, window)
        return True

    def waiting(self) -> Iterator[tuple[str, Half]]:
        """All halves that wait, new ones too."""
        yield from self._stored.items()
        yield from self._new.items()

    def booked(self) -> Iterable[Half]:
        """The halves that wait and are not new."""
        return self._stored.values()

    def new(self) -> Iterable[Half]:
        """The new halves that wait."""
        return self._new.values()

    def flush(self) -> None:
        """Put the changes into the state; sweep away marks of expired windows."""
        put, delete = self._state.put, self._state.delete
        for request_id in self._gone:
            delete(_HALF + request_id.encode())
        for request_id, half in self._new.items():
            put(_HALF + request_id.encode(), encode_half(half))
        windows = {window: window.to_bytes(4, "big") for window in set(self._marks.values())}
        self._state.update([(_MARK + joined.encode(), windows[window]) for joined, window in self._marks.items()])
        if self._marks:
            self._oldest = min(self._oldest, *windows)
        if self._oldest <= self.expired:
            self._sweep(self.expired, max(_SWEPT_AT_LEAST, 2 * len(self._marks)))
        self._stored.update(self._new)
        self._new, self._gone, self._marks = {}, [], {}

    def _sweep(self, expired: int, limit: int) -> None:
        """Delete expired marks from the store, a piece at a time, at twice the speed at which marks come.

        An expired mark means nothing to any reader (its events are late), so this is no change of the state and is
        not in the changelog.
        """
        gone: dict[bytes, bytes | None] = {}
        for i, (key, raw) in enumerate(self._state.store.scan(self._cursor, _MARK_END)):
            if i >= limit:
                self._cursor = key
                break
            window = int.from_bytes(raw, "big")
            if window <= expired:
                gone[key] = None
            elif window < self._lap_oldest:
                self._lap_oldest = window
        else:
            self._cursor, self._oldest, self._lap_oldest = _MARK, self._lap_oldest, _NEVER
        if gone:
            self._state.store.write(gone)
