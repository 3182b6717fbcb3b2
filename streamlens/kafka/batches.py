"""Records of one partition on their way: calls of append, cut into Kafka's batches, told their offsets in the end."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streamlens.log import TP, UNKNOWN_OFFSET, Record

BATCH_BYTES = 2 << 20
"""Of one batch, unless a topic takes less. A call whose records fit is never split, so nobody's can come between."""

_RECORD_OVERHEAD = 32
"""The lengths and deltas of a record, at most."""

_BATCH_OVERHEAD = 64


class Call:
    """One call of append: the records of each partition as a part. `done` is set when all parts are settled."""

    __slots__ = ("_left", "done", "parts")

    def __init__(self, batches: Mapping[TP, Sequence[Record]]) -> None:
        self.parts = {tp: Part(records, self) for tp, records in batches.items() if records}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = len(self.parts)

    def settled(self) -> None:
        """One more of its parts is settled."""
        self._left -= 1
        if not self._left:
            self.end()

    def end(self) -> None:
        """Wait no longer."""
        if not self.done.done():
            self.done.set_result(None)

    def offsets(self) -> dict[TP, int]:
        """Where each part's first record is, or `UNKNOWN_OFFSET`, also for a part that is not settled yet."""
        return {tp: part.offset for tp, part in self.parts.items()}


class Part:
    """The records of one call for one partition."""

    __slots__ = ("_base", "_call", "_left", "_next", "is_taken", "offset", "records", "size")

    def __init__(self, records: Sequence[Record], call: Call) -> None:
        self.records = records
        self.size = _size(records)
        self.is_taken = False
        """Handed to the producer: from now on it may be written, whatever becomes of the caller."""
        self.offset = UNKNOWN_OFFSET
        """Of the first record, once the part is settled."""
        self._call = call
        self._base = self._next = UNKNOWN_OFFSET
        self._left = len(records)

    def settle(self, base: int, count: int) -> None:
        """The next `count` records are at `base` and after, or their fate is unknown."""
        if self._left == len(self.records):
            self._base = self._next = base
        if base == UNKNOWN_OFFSET or base != self._next:
            self._base = UNKNOWN_OFFSET
        self._next = base + count
        self._left -= count
        if not self._left:
            self.offset = self._base
            self._call.settled()


class Piece(NamedTuple):
    """Records [begin, end) of a part, in one batch."""

    part: Part
    begin: int
    end: int


class Batch(NamedTuple):
    """Pieces that are sent as one record batch, which the broker writes whole or not at all."""

    pieces: list[Piece]

    @property
    def size(self) -> int:
        """Number of records."""
        return sum(piece.end - piece.begin for piece in self.pieces)

    def fill(self, builder: Any, now_ms: int) -> None:
        """Write the records into aiokafka's builder."""
        append = builder.append
        for part, begin, end in self.pieces:
            for key, value in part.records[begin:end]:
                if append(timestamp=now_ms, key=key, value=value) is None:
                    raise ValueError("a batch is larger than the producer's max_batch_size")
        builder.close()

    def settle(self, base: int) -> None:
        """Tell the parts: the first record is at `base`, or the fate is unknown."""
        for part, begin, end in self.pieces:
            part.settle(base, end - begin)
            if base != UNKNOWN_OFFSET:
                base += end - begin


def record_bytes(record: Record) -> int:
    """Upper bound of what a record takes in a batch, before compression."""
    return len(record.value) + len(record.key or b"") + _RECORD_OVERHEAD


def _size(records: Sequence[Record]) -> int:
    """The sum of their `record_bytes`."""
    keys, values = zip(*records, strict=True)
    return sum(map(len, values)) + sum(map(len, filter(None, keys))) + _RECORD_OVERHEAD * len(values)


def fit(part: Part, limit: int) -> bool:
    """Whether each record of `part` fits; where all fit into one batch, none has to be looked at."""
    return part.size + _BATCH_OVERHEAD <= limit or all(fits(record, limit) for record in part.records)


def fits(record: Record, limit: int) -> bool:
    """Whether a topic whose `max.message.bytes` is `limit` takes this record for certain."""
    return record_bytes(record) + _BATCH_OVERHEAD <= limit


def cut(parts: Sequence[Part], limit: int) -> list[Batch]:
    """The parts in their order as batches of at most `limit` bytes; only a part that is larger alone is split."""
    limit = min(limit, BATCH_BYTES) - _BATCH_OVERHEAD
    batches: list[Batch] = []
    room = 0
    for part in parts:
        if part.size <= limit:
            if part.size > room:
                batches.append(Batch([]))
                room = limit
            batches[-1].pieces.append(Piece(part, 0, len(part.records)))
            room -= part.size
            continue
        begin = size = 0
        for i, record in enumerate(part.records):
            if i > begin and size + record_bytes(record) > limit:
                batches.append(Batch([Piece(part, begin, i)]))
                begin, size = i, 0
            size += record_bytes(record)
        batches.append(Batch([Piece(part, begin, len(part.records))]))
        room = 0
    return batches
