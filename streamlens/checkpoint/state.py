"""A unit's state as its logic sees it: what changed in this epoch, over what is being written, over the store."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter

from streamlens.checkpoint.store import Store


class State:
    """An ordered map from bytes to bytes whose changes stay in memory until a checkpoint writes them.

    Reads look in the overlay (changes since the last freeze), then in the frozen overlay (the epoch that is being made
    durable), then in the store. Keys whose first byte is 0 belong to the checkpoint itself.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_waiting: Callable[[bytes], bool] = lambda key: False
        """Whether a sink has not got the entry of a key yet; it must not be deleted before. Set by the unit."""
        self._overlay: dict[bytes, bytes | None] = {}
        self._frozen: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        overlay = self._overlay
        if key in overlay:
            return overlay[key]
        if key in self._frozen:
            return self._frozen[key]
        return self.store.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._overlay[key] = value

    def update(self, changes: Iterable[tuple[bytes, bytes]]) -> None:
        """Put many entries."""
        self._overlay.update(changes)

    def delete(self, key: bytes) -> None:
        self._overlay[key] = None

    def scan(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries with low <= key < high, in order, as `get` would see them. Do not change the range meanwhile."""
        recent = {
            key: value for layer in (self._frozen, self._overlay) for key, value in layer.items() if low <= key < high
        }
        if not recent:
            yield from self.store.scan(low, high)
            return
        stored = (entry for entry in self.store.scan(low, high) if entry[0] not in recent)
        for key, value in heapq.merge(stored, sorted(recent.items(), key=itemgetter(0)), key=itemgetter(0)):
            if value is not None:
                yield key, value

    def __len__(self) -> int:
        """How many entries changed in this epoch so far."""
        return len(self._overlay)

    def freeze(self) -> dict[bytes, bytes | None]:
        """The changes of the epoch that ends here. Until `thaw` they are still read from memory."""
        assert not self._frozen, "one epoch at a time"
        self._frozen, self._overlay = self._overlay, {}
        return self._frozen

    def thaw(self) -> None:
        """The frozen changes are in the store now."""
        self._frozen = {}
