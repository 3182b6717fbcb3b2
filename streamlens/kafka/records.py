"""Values only: what a fetch brought, as runs of values instead of one object for each record.

aiokafka builds a `ConsumerRecord` for each record, which takes longer than everything else that is done with it.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streamlens.log import Run

MAX_RECORDS = 1_000
"""Of one run: bounds for how long one run holds the event loop."""

MAX_BYTES = 1 << 20
"""Values of one run, unless a single record is larger."""

_LOG_APPEND_TIME = 1


class RunRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """An iterator of `Run`s over the batches of one fetched partition, in offset order and without a hole between.

    Control records, records of aborted transactions and compacted ones are offsets without a value: they only ever
    stand at the end of a run, or are a run without values. Raises `CorruptRecordException` for a wrong checksum.
    """

    max_bytes = MAX_BYTES
    next_fetch_offset: int

    @classmethod
    def of(cls, fetched: PartitionRecords) -> "RunRecords":
        """The same fetched bytes. Only before anything was taken from `fetched`."""
        made = cls.__new__(cls)
        made.__dict__.update(fetched.__dict__)
        made._records_iterator = made._unpack_records()
        return made

    _ahead: tuple[int, Run] | None = None
    _records_iterator: Iterator[tuple[int, Run]] | None

    @property
    def next_ms(self) -> int | None:
        """The timestamp of the next run's first record, epoch milliseconds; None when there is no next run."""
        if self._ahead is None and self._records_iterator is not None:
            self._ahead = next(self._records_iterator, None)
            if self._ahead is None:
                self._records_iterator = None
        return self._ahead[0] if self._ahead else None

    def __next__(self) -> Run:
        if self.next_ms is None:
            raise StopIteration
        assert self._ahead is not None
        (_, run), self._ahead = self._ahead, None
        self.next_fetch_offset = run.next
        return run

    def _unpack_records(self) -> Iterator[tuple[int, Run]]:
        first: int = self.next_fetch_offset
        position = first
        values: list[bytes] = []
        size = first_ms = appended_ms = 0
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"the checksum of a batch of {self._tp} is wrong")
            if not self._is_skipped(batch):
                is_broker_time = batch.timestamp_type == _LOG_APPEND_TIME
                for piece, piece_values, piece_size, piece_ms in self._pieces(batch, position):
                    is_full = len(values) + len(piece_values) > MAX_RECORDS or size + piece_size > self.max_bytes
                    if piece > first + len(values) or (values and is_full):
                        yield first_ms, Run(first, piece, values, appended_ms)
                        first, values, size = piece, [], 0
                    if not values:
                        first_ms = piece_ms
                        appended_ms = piece_ms if is_broker_time else 0
                    values += piece_values
                    size += piece_size
            # The batch keeps its last offset when compaction took the last record: stepping by it never gets stuck.
            position = max(position, batch.next_offset)
        if position > first:
            yield first_ms if values else 0, Run(first, position, values, appended_ms if values else 0)

    def _is_skipped(self, batch: Any) -> bool:
        """Whether this batch holds nothing for a reader. Keeps track of the aborted transactions that are open."""
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)

    def _pieces(self, batch: Any, position: int) -> Iterator[tuple[int, list[bytes], int, int]]:
        """(first offset, values, their bytes, first timestamp) of the consecutive records from `position` on."""
        records = list(batch)
        if not records:
            return
        values = [record.value for record in records]
        if None in values:
            values = [value or b"" for value in values]
        base = records[0].offset
        if records[-1].offset - base + 1 == len(records):
            starts = [0, len(records)]
        else:
            offsets = [record.offset for record in records]
            starts = [0, *(i for i in range(1, len(offsets)) if offsets[i] != offsets[i - 1] + 1), len(offsets)]
        for start, stop in pairwise(starts):
            skipped = max(0, position - records[start].offset)
            for begin, end, size in _cuts(values, min(start + skipped, stop), stop, self.max_bytes):
                yield records[begin].offset, values[begin:end], size, records[begin].timestamp


def runs_of(
    tp: TopicPartition,
    fetched: bytes,
    position: int,
    aborted: Sequence[tuple[int, int]] | None = None,
    max_bytes: int = MAX_BYTES,
) -> RunRecords:
    """The committed runs from `position` on in the bytes of a fetch; `aborted`: (producer, first offset) pairs."""
    records = RunRecords(tp, MemoryRecords(fetched), aborted, position, None, None, True, READ_COMMITTED)
    records.max_bytes = max_bytes
    return records


def _cuts(values: list[bytes], begin: int, stop: int, max_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Index ranges [begin, end) and their bytes: at most `MAX_RECORDS` values and `max_bytes`, or one value."""
    while begin < stop:
        end = min(begin + MAX_RECORDS, stop)
        size = sum(map(len, values[begin:end]))
        if size > max_bytes:
            size, end = len(values[begin]), begin + 1
            while end < stop and size + len(values[end]) <= max_bytes:
                size += len(values[end])
                end += 1
        yield begin, end, size
        begin = end
