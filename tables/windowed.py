"""Rows by window: what the windowed families share. Open rows live in memory, closed ones rest in the state."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from streamlens.checkpoint.state import State

CACHED_ROWS = 4_000
"""Of one family in one partition; beyond, rows are read from the state again in the next epoch."""
_EXPIRED_ROWS = 5_000
"""So many go in one epoch: a day's visits end together, and must not hold up the events of others."""

Row = TypeVar("Row")


def window_key(prefix: bytes, window: int, name: bytes = b"") -> bytes:
    """The state's key of a row; keys of one prefix sort by window. `name` is unique within a window."""
    return prefix + window.to_bytes(4, "big") + name


def window_of(key: bytes) -> int:
    return int.from_bytes(key[1:5], "big")


def names_of(key: bytes) -> list[str]:
    """The names in a key of a family whose names are separated by NUL."""
    return key[5:].decode().split("\0")


class Windowed(Generic[Row]):
    """Rows of one family, by `window_key`. Changes stay in memory until `flush`."""

    def __init__(
        self,
        prefix: bytes,
        new: Callable[[], Row],
        encode: Callable[[Row], bytes],
        decode: Callable[[bytes], Row],
        cached_rows: int = CACHED_ROWS,
    ) -> None:
        self._prefix = prefix
        self._new = new
        self._encode = encode
        self._decode = decode
        self._cached_rows = cached_rows
        self._state: State
        self._cache: dict[bytes, Row] = {}
        self._dirty: dict[bytes, Row] = {}
        self._floor = 0
        self._rested = -1
        self._new_from = b""  # a row from this key on that is not in the cache is not in the state either

    def open(self, state: State, closed: int) -> None:
        """`closed` is the last window that is. Of windows after it, and after all in the state, the cache is whole."""
        self._state, last, end = state, closed, bytes([self._prefix[0] + 1])
        while (entry := next(state.scan(window_key(self._prefix, last + 1), end), None)) is not None:
            last = window_of(entry[0])
        self._new_from = window_key(self._prefix, last + 1)

    def change(self, key: bytes) -> Row:
        """The row of a key, to be changed: it is written at the next flush. New where there is none."""
        row = self._dirty.get(key)
        if row is None:
            row = self._dirty[key] = self.look(key)
        return row

    def look(self, key: bytes) -> Row:
        """The row of a key, to be read; a new one where there is none. To be changed only if it is `touch`ed then."""
        row = self._cache.get(key)
        if row is None:
            raw = self._state.get(key) if key < self._new_from else None
            row = self._cache[key] = self._new() if raw is None else self._decode(raw)
        return row

    def touch(self, key: bytes, row: Row) -> None:
        """A row that `look` has given was changed."""
        self._dirty[key] = row

    def keys(self, low: int, high: int) -> Iterator[bytes]:
        """Keys of the windows low to high, changed and stored ones."""
        begin, end = window_key(self._prefix, max(low, 0)), window_key(self._prefix, high + 1)
        yield from [key for key in self._dirty if begin <= key < end]
        for key, _ in self._state.scan(begin, end):
            if key not in self._dirty:
                yield key

    def names(self, low: int) -> Iterator[tuple[int, list[str]]]:
        """The names of the rows in the state, each once with its last window, from window `low` on."""
        begin, end = window_key(self._prefix, max(low, 0)), bytes([self._prefix[0] + 1])
        last = {key[5:]: window_of(key) for key, _ in self._state.scan(begin, end)}
        for names, window in last.items():
            yield window, names.decode().split("\0")

    def changed(self) -> Iterator[tuple[bytes, Row]]:
        return iter(self._dirty.items())

    def flush(self, expired: int) -> None:
        """Put the changed rows into the state, and delete rows of expired windows, the oldest ones first.

        A row that changed in this epoch, or that a sink still waits for, is published first and goes with a later one.
        """
        self._state.update(zip(self._dirty, map(self._encode, self._dirty.values()), strict=True))
        if self._floor <= expired:
            self._expire(expired)
        self._dirty.clear()
        if len(self._cache) > self._cached_rows:
            self._new_from = max(self._new_from, window_key(self._prefix, window_of(max(self._cache)) + 1))
            self._cache.clear()

    def _expire(self, expired: int) -> None:
        low, high = window_key(self._prefix, self._floor), window_key(self._prefix, expired + 1)
        # What is not in the store yet has changed in this epoch: looking for it in all that has would take long.
        keys = [key for key, _ in islice(self._state.store.scan(low, high), _EXPIRED_ROWS)]
        self._floor = expired + 1 if len(keys) < _EXPIRED_ROWS else window_of(keys[-1])
        for key in keys:
            if key not in self._dirty:
                if self._state.is_waiting(key):
                    self._floor = min(self._floor, window_of(key))
                else:
                    self._state.delete(key)
                    self._cache.pop(key, None)
        self._floor = min([self._floor, *map(window_of, self._dirty)])

    @property
    def settled(self) -> int:
        """The last window up to which all rows have expired, and are with all sinks; -1: none."""
        return self._floor - 1

    def rest(self, closed: int) -> None:
        """Rows of closed windows leave the memory; a later event finds them in the state."""
        if closed == self._rested:
            return
        self._rested = closed
        end = window_key(self._prefix, closed + 1)
        self._new_from = max(self._new_from, end)
        for key in [key for key in self._cache if key < end and key not in self._dirty]:
            del self._cache[key]
