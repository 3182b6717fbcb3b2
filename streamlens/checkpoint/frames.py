"""The records of a changelog partition: takeovers, and epochs framed in parts. Bytes in, values out.

A unit appends a *takeover* when it gets its partition; the record's offset is the new generation. After that each
checkpoint is one epoch, cut into parts 1 to n, so that no record is too large. An epoch counts once all n are there.
"""

from typing import NamedTuple

import msgspec

from streamlens.errors import Damaged

PART_BYTES = 512 * 1024
"""A part's payload at most: far below the smallest record size that brokers accept."""

Version = tuple[int, int]
"""(generation, epoch), ordered: what a published row carries, and what sinks compare."""

Change = tuple[bytes, bytes | None]
"""A key of the state and its new value; None: deleted."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What an epoch says besides its changes.

    `offsets`: the next offset to read of each source topic. `drained`: the outputs up to this epoch have reached all
    sinks. `logic`: whatever the stage's logic keeps in memory and needs again (its watermark).
    """

    offsets: dict[str, int]
    drained: int
    logic: bytes


class Takeover(msgspec.Struct, frozen=True, array_like=True, tag="T"):
    """A worker takes the partition; from this record's offset on, only records with this offset as generation count."""

    worker: str
    time_ms: int


class Part(msgspec.Struct, frozen=True, array_like=True, tag="D"):
    """Part `number` of `parts` (from 1) of an epoch."""

    generation: int
    epoch: int
    number: int
    parts: int
    payload: bytes


class SnapshotPart(msgspec.Struct, frozen=True, array_like=True, tag="S"):
    """Part `number` (from 1) of what a store held as of an epoch: entries, in a payload of their own."""

    generation: int
    epoch: int
    number: int
    last: bool
    payload: bytes


class Epoch(NamedTuple):
    """A complete epoch, put together again; `next` is the offset after its last part."""

    generation: int
    epoch: int
    next: int
    header: Header
    changes: list[Change]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Takeover | Part | SnapshotPart).decode
_decode_entries = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]]).decode
_decode_body = msgspec.msgpack.Decoder(tuple[Header, list[Change]]).decode


def takeover_record(worker: str, time_ms: int) -> bytes:
    return _encode(Takeover(worker, time_ms))


def epoch_records(version: Version, header: Header, changes: list[Change], part_bytes: int = PART_BYTES) -> list[bytes]:
    """The records of one epoch, to be appended in this order."""
    body = _encode((header, changes))
    parts = max(1, -(-len(body) // part_bytes))
    return [_encode(Part(*version, i + 1, parts, body[i * part_bytes : (i + 1) * part_bytes])) for i in range(parts)]


def is_takeover(record: bytes) -> bool:
    return isinstance(_decode(record), Takeover)


def snapshot_record(version: Version, number: int, last: bool, entries: list[tuple[bytes, bytes]]) -> bytes:
    return _encode(SnapshotPart(*version, number, last, _encode(entries)))


def snapshot_entries(part: SnapshotPart) -> list[tuple[bytes, bytes]]:
    return _decode_entries(part.payload)


def parse(offset: int, record: bytes) -> Takeover | Part | SnapshotPart:
    """A record of a changelog. Raises `Damaged`."""
    try:
        part: Takeover | Part | SnapshotPart = _decode(record)
    except msgspec.DecodeError as error:
        raise Damaged(f"changelog record {offset} can't be read: {error}") from error
    return part


class Lineage:
    """Reads a changelog from some position on, finds the epochs that count: complete ones of the generation in force.

    `generation` and `epoch` are those of the state at that position. `bytes`: what was read of epochs, void or not.
    """

    def __init__(self, generation: int, epoch: int) -> None:
        self.generation = generation
        self.epoch = epoch
        self.bytes = 0
        self._parts: list[bytes] = []
        self._of = 0

    def feed(self, offset: int, record: bytes) -> Epoch | None:
        """Take the next record; returns the epoch that it completes, if it does. Raises `Damaged`."""
        return self._feed(offset, parse(offset, record))

    def _feed(self, offset: int, part: Takeover | Part | SnapshotPart) -> Epoch | None:
        if isinstance(part, Takeover):
            self.generation = offset
            self._parts.clear()
            return None
        if isinstance(part, SnapshotPart):
            return None
        self.bytes += len(part.payload)
        if part.generation != self.generation:
            return None  # A worker that lost the partition goes on writing: void for every reader, for ever.
        if part.number == 1:
            self._parts.clear()
            self._of = part.epoch
        if part.epoch != self._of or part.number != len(self._parts) + 1:
            return None  # The rest of a frame whose beginning is missing.
        self._parts.append(part.payload)
        if part.number < part.parts:
            return None
        try:
            header, changes = _decode_body(b"".join(self._parts))
        except msgspec.DecodeError as error:
            raise Damaged(f"changelog record {offset} can't be read: {error}") from error
        self._parts.clear()
        self.epoch = part.epoch
        return Epoch(part.generation, part.epoch, offset + 1, header, changes)
