"""Snapshots: a store's whole content in the changelog, so that the deltas before it can go.

A snapshot is cut into parts like an epoch, but over many checkpoints, with epochs in between. It holds what the store
held as of its epoch, its position included: who restores it reads on from there, not from the snapshot's end.
"""

from collections.abc import Iterator

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


class Restore:
    """Writes a snapshot into an empty store, while the changelog is read from its start on, once.

    It is the first complete one that says to read on at `start` or after, since what was before is gone. A part that
    came after a later takeover is void; where that takeover is gone too, the higher (generation, epoch) counts.
    """

    def __init__(self, store: Store, start: int) -> None:
        self.done = False
        self.held: list[tuple[int, bytes]] = []
        """(offset, record) of what is no snapshot, once `done` from where to read on: epochs between the parts."""
        self.next = start
        """The offset to be fed next."""
        self._store = store
        self._start = start
        self._takeover = -1
        self._version: Version = (-1, 0)
        self._number = self._bytes = 0

    def feed(self, offset: int, record: bytes) -> None:
        """Take the next record. The last part of the snapshot completes the store."""
        self.next = offset + 1
        part = parse(offset, record)
        if not isinstance(part, SnapshotPart):
            self.held.append((offset, record))
            if isinstance(part, Takeover):
                self._takeover = offset
            return
        if part.generation < self._takeover:
            return  # A part that came after a later takeover is void.
        version = (part.generation, part.epoch)
        if part.number == 1 and version > self._version:
            self._begin(version)
        elif version != self._version or part.number != self._number + 1:
            return
        self._number = part.number
        self._bytes += len(record)
        self._store.write(dict(snapshot_entries(part)))
        if part.last:
            self._end()

    def _begin(self, version: Version) -> None:
        if self._number:
            self._store.clear()
        self._version, self._bytes = version, 0
        self._store.write({RESTORING: b""})

    def _end(self) -> None:
        raw = self._store.get(META)
        assert raw is not None, "every store says where it stands, once it was written"
        meta = decode_meta(raw)
        if meta.position < self._start:
            return
        # The snapshot can't say how large it is, nor that it stands for all deltas before it.
        meta = msgspec.structs.replace(meta, delta_bytes=0, snapshot_bytes=self._bytes)
        self._store.write({RESTORING: None, META: encode(meta)})
        self.held = [each for each in self.held if each[0] >= meta.position]
        self.done = True
