"""Snapshots and the cutting of the changelog's head, each safeguard taken out of the production classes."""

from collections.abc import Iterator

import msgspec

from streamlens.checkpoint.replay import META, decode_meta, encode
from streamlens.checkpoint.snapshot import Restore
from streamlens.checkpoint.store import RocksStore
from streamlens.checkpoint.unit import Unit


def read_on_from_the_end_of_the_snapshot() -> None:
    """the position in a snapshot: who restores one reads on behind its last part"""
    feed = Restore.feed

    def skip(self: Restore, offset: int, record: bytes) -> None:
        feed(self, offset, record)
        if self.done and (raw := self._store.get(META)) is not None:
            self.held.clear()
            self._store.write({META: encode(msgspec.structs.replace(decode_meta(raw), position=offset + 1))})

    Restore.feed = skip  # type: ignore[method-assign]


def head_cut_too_early() -> None:
    """the wait for a snapshot's last part: the head is cut as soon as it has begun"""
    appended = Unit.snapshot_appended

    def too_early(self: Unit) -> int | None:
        return appended(self) or (self._snapshot_at[0] if self._snapshot else None)

    Unit.snapshot_appended = too_early  # type: ignore[method-assign]


def marks_left_out() -> None:
    """the marks of duplicates in a snapshot"""
    snapshot = RocksStore.snapshot

    def without(self: RocksStore) -> Iterator[tuple[bytes, bytes]]:
        return (entry for entry in snapshot(self) if entry[0][:1] != b"m")

    RocksStore.snapshot = without  # type: ignore[method-assign]
