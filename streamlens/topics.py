"""The topics, their keys and what travels between the stages."""

from collections.abc import Iterator

import msgspec

from streamlens.log import Record

REQUESTS = "llm.requests"
RESPONSES = "llm.responses"
CALLS = "llm.calls"
INPUTS = {REQUESTS: "request", RESPONSES: "response", CALLS: "call"}
"""Input topics, keyed by request id and equally partitioned, with the kind of event in each."""

PARTIALS = "streamlens.partials"
METRICS = "llm.metrics"
DEAD_LETTERS = "streamlens.dlq"


CLOSED_KEY = b"c"
"""Stands where else the key of a row is: the content is (closed window, expired window)."""


class Partials(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One partition's whole contributions to rows: what it sends to one partition of stage two in an epoch, or a part.

    `rows` are (the row's key in the state of both stages, content). Repeated or reordered they change nothing: only a
    higher (generation, epoch) of a partition counts.
    """

    partition: int
    generation: int
    epoch: int
    appended_ms: int
    """When the oldest event of the epoch was appended to its topic, to measure freshness; 0 when not known."""
    rows: list[tuple[bytes, bytes]]


class Packer:
    """Packs an epoch's partials into records: many share one, because a record costs more than a row in it."""

    def __init__(self, partition: int, version: tuple[int, int], appended_ms: int) -> None:
        self._head = partition, *version, appended_ms
        self._packs: dict[int, list[tuple[bytes, bytes]]] = {}
        self._bytes: dict[int, int] = {}

    def add(self, to: int, key: bytes, content: bytes) -> Record | None:
        """Send a partial to partition `to`; the record that is full with it."""
        pack = self._packs.get(to)
        if pack is None:
            pack, self._bytes[to] = self._packs.setdefault(to, []), 0
        pack.append((key, content))
        self._bytes[to] += len(key) + len(content)
        return self._record(self._packs.pop(to)) if self._bytes[to] >= _PACK_BYTES else None

    def rest(self) -> Iterator[tuple[int, Record]]:
        """The records that did not become full, with their partitions."""
        for to, pack in self._packs.items():
            yield to, self._record(pack)

    def _record(self, rows: list[tuple[bytes, bytes]]) -> Record:
        return Record(None, _encode_partials(Partials(*self._head, rows)))


_PACK_BYTES = 64 << 10

_encode_partials = msgspec.msgpack.Encoder().encode
decode_partials = msgspec.msgpack.Decoder(Partials).decode
encode_closed = msgspec.msgpack.Encoder().encode
decode_closed = msgspec.msgpack.Decoder(tuple[int, int]).decode
