"""How one batch of consecutive records of a partition is stored: one value under one ordered key.

Bytes of a value: crc32 of the key and of all that follows, then the header fields, then two MessagePack arrays, the
values before the keys, because reading a run needs the values alone.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence

import msgspec

MAX_RECORDS = 1_000
"""Of one stored batch. Bounds what a reader decodes at once."""

MAX_BYTES = 512 << 10
"""Values of one stored batch, unless a single record is larger."""

_CRC = struct.Struct(">I")
_HEADER = struct.Struct(">IQQI")  # records, append time ms, position, bytes of the values array
_BODY = _CRC.size + _HEADER.size
_PARTITION = struct.Struct(">cII")  # b"b", topic id, partition
_OFFSET = struct.Struct(">Q")

_encode = msgspec.msgpack.Encoder().encode
_decode_values = msgspec.msgpack.Decoder(list[bytes]).decode
_decode_keys = msgspec.msgpack.Decoder(list[bytes | None] | None).decode


def partition_prefix(topic_id: int, partition: int) -> bytes:
    """What the keys of all batches of a partition begin with."""
    return _PARTITION.pack(b"b", topic_id, partition)


def batch_key(prefix: bytes, first: int) -> bytes:
    """The key of the batch whose first record has the offset `first`; keys sort by partition, then offset."""
    return prefix + _OFFSET.pack(first)


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A batch as read back: the offsets [first, first + count).

    `position` counts the value bytes of the partition before this batch, since its beginning. Neither `position` nor
    `append_ms` ever falls from one batch to the next, so a cut by size or by age is a binary search.
    """

    first: int
    count: int
    append_ms: int
    position: int
    raw: bytes
    values_end: int

    @property
    def next(self) -> int:
        """The offset after the last record."""
        return self.first + self.count

    def values(self) -> list[bytes]:
        return _decode_values(memoryview(self.raw)[_BODY : self.values_end])

    def keys(self) -> list[bytes | None]:
        keys = _decode_keys(memoryview(self.raw)[self.values_end :])
        return [None] * self.count if keys is None else keys


def pack(key: bytes, values: Sequence[bytes], keys: Sequence[bytes | None], append_ms: int, position: int) -> bytes:
    """The value to store under `key`."""
    packed_values = _encode(values)
    packed_keys = _encode(keys if any(k is not None for k in keys) else None)
    header = _HEADER.pack(len(values), append_ms, position, len(packed_values))
    crc = zlib.crc32(packed_keys, zlib.crc32(packed_values, zlib.crc32(header, zlib.crc32(key))))
    return b"".join((_CRC.pack(crc), header, packed_values, packed_keys))


def unpack(key: bytes, raw: bytes) -> Stored:
    """The batch stored under `key`. Raises `ValueError` when its bytes are not those that `pack` made for this key."""
    if len(raw) < _BODY:
        raise ValueError("a batch is shorter than its header")
    if zlib.crc32(memoryview(raw)[_CRC.size :], zlib.crc32(key)) != _CRC.unpack_from(raw)[0]:
        raise ValueError("the checksum of a batch is wrong")
    count, append_ms, position, values_bytes = _HEADER.unpack_from(raw, _CRC.size)
    (first,) = _OFFSET.unpack_from(key, _PARTITION.size)
    return Stored(first, count, append_ms, position, raw, _BODY + values_bytes)


def cuts(values: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Cut records into stored batches: index ranges [from, to) of at most `MAX_RECORDS` and about `MAX_BYTES`."""
    begin = size = 0
    for i, value in enumerate(values):
        if i > begin and (size + len(value) > MAX_BYTES or i - begin == MAX_RECORDS):
            yield begin, i
            begin, size = i, 0
        size += len(value)
    if begin < len(values):
        yield begin, len(values)
