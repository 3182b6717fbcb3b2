"""Rows merged over all partitions of stage one, of whatever family (`tables/families.py`).

Keys: as stage one's (prefix + window + names) -> `Merged`; b"k" + partition -> how far that partition is closed;
b"u" -> up to which window the rows of calls and facets are as they will stay.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from streamlens.checkpoint.frames import Version
from tables.windowed import Windowed

Counted = TypeVar("Counted", bound="Mergeable")


class Mergeable(Protocol):
    """What a family counts: contributions of several partitions add up, in any order."""

    def merge(self, other: Any) -> None: ...


class Slot(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One partition's whole contribution to a row, as it sent it last."""

    version: Version
    content: bytes


class Merged(msgspec.Struct, array_like=True, gc=False):
    """One row: a slot for each partition that contributed. `revision` counts its published changes."""

    revision: int = 0
    final: bool = False
    slots: dict[int, Slot] = {}

    def accept(self, partition: int, slot: Slot) -> bool:
        """Take a contribution; only a higher version than the partition's last one changes anything."""
        have = self.slots.get(partition)
        if have is not None and slot.version <= have.version:
            return False
        self.slots[partition] = slot
        return True

    def total(self, decode: Callable[[bytes], Counted]) -> Counted:
        """The sum of all partitions' contributions."""
        first, *others = self.slots.values()
        total = decode(first.content)
        for slot in others:
            total.merge(decode(slot.content))
        return total


_encode = msgspec.msgpack.Encoder().encode
decode_merged = msgspec.msgpack.Decoder(Merged).decode


def merged(prefix: bytes, cached_rows: int) -> Windowed[Merged]:
    return Windowed(prefix, Merged, _encode, decode_merged, cached_rows)


class Closed(msgspec.Struct, array_like=True, frozen=True):
    """What a partition of stage one has announced: its last closed and its last expired window."""

    version: Version = (-1, 0)
    closed: int = -1
    expired: int = -1


CLOSED = b"k"
CLOSED_END = b"l"
encode_closed_slot = msgspec.msgpack.Encoder().encode
decode_closed_slot = msgspec.msgpack.Decoder(Closed).decode


def closed_key(partition: int) -> bytes:
    return CLOSED + partition.to_bytes(2, "big")


SETTLED = b"u"


def encode_settled(window: int) -> bytes:
    return window.to_bytes(4, "big")


def decode_settled(value: bytes | None) -> int:
    """-1 where there is none."""
    return -1 if value is None else int.from_bytes(value, "big")
