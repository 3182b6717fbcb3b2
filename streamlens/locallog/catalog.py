"""The small values of the local log beside its batches: format marker, topics, starts and committed offsets."""

import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rocksdict import WriteBatch

from streamlens.errors import BadSetting, Unavailable

FORMAT = 1
"""Of everything stored. A log of another format is refused."""

_MARKER = b"f"
_TOPICS = b"t"
_STARTS = b"s"
_COMMITS = b"c"

_PARTITION = struct.Struct(">II")  # topic id, partition
_NUMBER = struct.Struct(">Q")
_T = TypeVar("_T")


class Marker(msgspec.Struct, frozen=True):
    """Says that a directory is a log of ours, and which one: `log_id` is random and never changes."""

    format: int
    log_id: str


class Topic(msgspec.Struct, frozen=True):
    """A topic as stored under its name. `id` stands for the name in all other keys."""

    id: int
    partitions: int
    retention_ms: int
    retention_bytes: int


class Catalog:
    """Reads and writes these values; raises `ValueError` when one can't be what was written."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def open(self, path: Path, *, read_only: bool) -> Marker:
        """The marker of the log in `path`; an empty database becomes a log, unless it is open for reading only."""
        raw = self._db.get(_MARKER)
        if raw is None:
            if next(self._scan(b""), None) is not None:
                raise ValueError("it has no format marker")
            if read_only:
                raise Unavailable(f"there is no log in {path}")
            raw = msgspec.msgpack.encode(Marker(FORMAT, uuid.uuid4().hex))
            self._db.put(_MARKER, raw)
            self._db.flush_wal(True)
        marker = _decode(raw, Marker)
        if marker.format != FORMAT:
            raise BadSetting(f"the log in {path} has format {marker.format}, but this version reads {FORMAT}")
        return marker

    def topics(self) -> dict[str, Topic]:
        return {key[len(_TOPICS) :].decode(): _decode(raw, Topic) for key, raw in self._scan(_TOPICS)}

    def put_topic(self, write: WriteBatch, name: str, topic: Topic) -> None:
        write.put(_TOPICS + name.encode(), msgspec.msgpack.encode(topic))

    def start(self, topic_id: int, partition: int) -> int:
        """The start of a partition, 0 until something was deleted."""
        raw = self._db.get(_STARTS + _PARTITION.pack(topic_id, partition))
        return 0 if raw is None else _number(raw)

    def put_start(self, write: WriteBatch, topic_id: int, partition: int, start: int) -> None:
        write.put(_STARTS + _PARTITION.pack(topic_id, partition), _NUMBER.pack(start))

    def commits(self, group: str) -> dict[tuple[int, int], int]:
        """The committed offsets of a consumer group by (topic id, partition)."""
        prefix = _commits(group)
        return {_partition(key[len(prefix) :]): _number(raw) for key, raw in self._scan(prefix)}

    def put_commit(self, write: WriteBatch, group: str, topic_id: int, partition: int, offset: int) -> None:
        write.put(_commits(group) + _PARTITION.pack(topic_id, partition), _NUMBER.pack(offset))

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        it = self._db.iter()
        it.seek(prefix)
        while it.valid() and it.key().startswith(prefix):
            yield it.key(), it.value()
            it.next()
        it.status()


def _commits(group: str) -> bytes:
    name = group.encode()
    return _COMMITS + struct.pack(">H", len(name)) + name  # the length keeps "a" from finding what is of "ab"


def _partition(raw: bytes) -> tuple[int, int]:
    if len(raw) != _PARTITION.size:
        raise ValueError("a key of a committed offset is cut off")
    topic_id, partition = _PARTITION.unpack(raw)
    return topic_id, partition


def _number(raw: bytes) -> int:
    if len(raw) != _NUMBER.size:
        raise ValueError("a stored offset has the wrong length")
    return int.from_bytes(raw)


def _decode(raw: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(f"a stored {kind.__name__.lower()} can't be read: {error}") from error
