"""Snapshots: a store's whole content in the changelog, so that the deltas before it can go.

A snapshot is cut into parts like an epoch, but over many checkpoints, with epochs in between. It holds what the store
held as of its epoch, its position included: who restores it reads on from there, not from the snapshot's end.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from streamlens.checkpoint.frames import (
    PART_BYTES,
    SnapshotPart,
    Takeover,
    Version,
    parse,
    snapshot_entries,
    snapshot_record,
)
from streamlens.checkpoint.replay import META, decode_meta, encode
from streamlens.checkpoint.store import Store

RESTORING = b"\x00restoring"
"""A store with this entry was not restored to its end: it is as good as missing."""


class SnapshotWriter:
    """Turns a view of a store into records, a piece at a time."""

    def __init__(self, version: Version, entries: Iterator[tuple[bytes, bytes]], part_bytes: int = PART_BYTES) -> None:
        self._version = version
        self._entries = entries
        self._part_bytes = part_bytes
        self._number = 0
        self.bytes = 0
        self.done = False

    def next_record(self) -> bytes:
        """The next part; `done` after the last one."""
        part: list[tuple[bytes, bytes]] = []
        size = 0
        for key, value in self._entries:
            part.append((key, value))
            size += len(key) + len(value)
            if size >= self._part_bytes:
                break
        else:
            self.done = True
        self._number += 1
        record = snapshot_record(self._version, self._number, self.done, part)
        self.bytes += len(record)
        return record


class Found(NamedTuple):
    """A complete snapshot: its parts are among the records [first, next)."""

    version: Version
    first: int
    next: int


class SnapshotFinder:
    """Finds the complete snapshot of the highest (generation, epoch) that no takeover voids."""

    def __init__(self) -> None:
        self.best: Found | None = None
        self._takeover = -1
        self._begun: dict[Version, tuple[int, int]] = {}

    def feed(self, offset: int, record: bytes) -> None:
        """Take the next record, from the log's start on."""
        part = parse(offset, record)
        if isinstance(part, Takeover):
            self._takeover = offset
        if not isinstance(part, SnapshotPart) or part.generation < self._takeover:
            return  # A part that came after a later takeover is void.
        version = (part.generation, part.epoch)
        first, number = (offset, 0) if part.number == 1 else self._begun.pop(version, (0, -1))
        if part.number != number + 1:
            return
        if not part.last:
            self._begun[version] = (first, part.number)
        elif self.best is None or version > self.best.version:
            self.best = Found(version, first, offset + 1)


class Restore:
    """Writes a found snapshot into an empty store."""

    def __init__(self, store: Store, found: Found) -> None:
        self._store = store
        self._found = found
        self._bytes = 0
        store.write({RESTORING: b""})

    def feed(self, offset: int, record: bytes) -> None:
        """Take the next record of [first, next). The last one completes the store."""
        part = parse(offset, record)
        if not isinstance(part, SnapshotPart) or (part.generation, part.epoch) != self._found.version:
            return
        self._bytes += len(record)
        self._store.write(dict(snapshot_entries(part)))
        if part.last:
            self._store.write({RESTORING: None, META: self._meta()})

    def _meta(self) -> bytes:
        """The snapshot can't say how large it is, nor that it stands for all deltas before it."""
        raw = self._store.get(META)
        assert raw is not None, "every store says where it stands, once it was written"
        return encode(msgspec.structs.replace(decode_meta(raw), delta_bytes=0, snapshot_bytes=self._bytes))
