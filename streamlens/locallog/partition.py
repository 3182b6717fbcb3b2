"""One partition of the local log: its offsets, finding a batch, and reading a run."""

from collections.abc import Iterator
from typing import Any

from rocksdict import WriteBatch

from streamlens.locallog import batch
from streamlens.log import TP, Run

MAX_RUN_RECORDS = 2_000
"""Small stored batches are merged into one run up to this many records."""


class Partition:
    """The offsets of a partition. Records in [start, end) are durable; [end, reserved) are being written.

    Any contradiction in what is stored is raised as `ValueError`; an error of RocksDB passes through.
    """

    def __init__(self, db: Any, tp: TP, topic_id: int, start: int) -> None:
        self.tp = tp
        self.prefix = batch.partition_prefix(topic_id, tp.partition)
        self.start = start
        self._db = db
        last = self.find((1 << 64) - 1)
        self.append_ms = 0 if last is None else last.append_ms
        self.position = 0 if last is None else last.position + sum(map(len, last.values()))
        # After everything was deleted the start is all that tells the end.
        self.end = self.reserved = start if last is None else last.next
        holder = None if last is None else self.find(start)
        if last is not None and (holder is None or holder.next <= start):
            raise ValueError(f"{self._name} does not hold its first record {start}")

    @property
    def _name(self) -> str:
        return f"partition {self.tp.partition} of {self.tp.topic}"

    def reserve(self, write: WriteBatch, values: list[bytes], keys: list[bytes | None], now_ms: int) -> None:
        """Add records at the reserved end to a write, as stored batches of bounded size."""
        self.append_ms = max(self.append_ms, now_ms)
        for begin, stop in batch.cuts(values):
            part = values[begin:stop]
            key = batch.batch_key(self.prefix, self.reserved)
            write.put(key, batch.pack(key, part, keys[begin:stop], self.append_ms, self.position))
            self.reserved += len(part)
            self.position += sum(map(len, part))

    def batches(self, offset: int) -> Iterator[batch.Stored]:
        """The stored batches from the one that holds `offset` on, without a gap; the first may not hold it."""
        it = self._db.iter()
        it.seek_for_prev(batch.batch_key(self.prefix, offset))
        expected = None
        while it.valid():
            key = it.key()
            if not key.startswith(self.prefix):
                break
            stored = batch.unpack(key, it.value())
            if expected is not None and stored.first != expected:
                raise ValueError(f"{self._name} lacks the records {expected} to {stored.first - 1}")
            expected = stored.next
            yield stored
            it.next()
        it.status()  # an iterator just ends at a damaged block; its status tells

    def find(self, offset: int) -> batch.Stored | None:
        """The last batch that begins at or below `offset`; None when there is none."""
        return next(self.batches(offset), None)

    def read(self, offset: int, max_bytes: int) -> Run:
        """Durable records from `offset`, which is in [start, end]. Whole batches: one, and what stays in bounds."""
        values: list[bytes] = []
        after, size, appended_ms = offset, 0, 0
        for stored in self.batches(offset) if offset < self.end else ():
            full = len(values) + stored.count > MAX_RUN_RECORDS or size + len(stored.raw) > max_bytes
            if stored.first >= self.end or stored.next <= offset or (values and full):
                break
            values += stored.values()[max(0, offset - stored.first) :]
            after, size, appended_ms = stored.next, size + len(stored.raw), appended_ms or stored.append_ms
        if offset < self.end and not values:
            raise ValueError(f"{self._name} has no record {offset}, but ends at {self.end}")
        return Run(offset, after, values, appended_ms)
