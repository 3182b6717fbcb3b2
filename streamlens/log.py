"""The log that everything stands on: topics of partitions of records with offsets.

`Log` is the seam between StreamLens and its broker. The local log and Kafka both provide it, one contract suite
(`tests/log_contract.py`) runs on each, and everything above is the same code. `Member` is who reads it for a group.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
from faust.types import TP

__all__ = ["TP", "UNKNOWN_OFFSET", "Log", "Record", "Run", "TopicSpec"]

UNKNOWN_OFFSET = -1
"""Stands in an acknowledgement for "it may or may not have been written"."""


class Record(NamedTuple):
    """One record to append. `key` is stored beside `value` and decides nothing: the caller chose the partition."""

    key: bytes | None
    value: bytes


class Run(msgspec.Struct, frozen=True, gc=False):
    """Consecutive records of one partition: `values` of the offsets [first, next).

    `next - first` is larger than `len(values)` where offsets hold no record (control or compacted records on Kafka).
    """

    first: int
    next: int
    values: list[bytes]
    appended_ms: int = 0
    """When the first of them was appended, epoch milliseconds; 0 when that is not known."""

    def after(self, offset: int) -> "Run":
        """The part of this run from `offset` on. Only for runs without skipped offsets below `offset`."""
        return Run(offset, self.next, self.values[offset - self.first :], self.appended_ms)

    def pieces(self, records: int) -> Iterator["Run"]:
        """The same in runs of so many records at most. Offsets without a record stand at the end of a run."""
        first, values = self.first, self.values
        while len(values) > records:
            yield Run(first, first + records, values[:records], self.appended_ms)
            first, values = first + records, values[records:]
        yield Run(first, self.next, values, self.appended_ms)


FEW_RECORDS = 1_000
LINGER_S = 0.05
"""After so few records a consumer waits so long for more: a run of one record costs as much as one of hundreds."""


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic as it must exist. Retention: -1 keeps for ever."""

    name: str
    partitions: int
    retention_ms: int = -1
    retention_bytes: int = -1
    """Per partition."""


class Log(Protocol):
    """What a broker must do for us. Errors: `Unavailable` to retry, `Damaged` to stop."""

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing. A topic that exists with another number of partitions is refused (`BadSetting`)."""

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        """Append the records of each partition in order and without a gap; returns when all are durable.

        Returns the offset of the first record of each partition, `UNKNOWN_OFFSET` where the fate is unknown or where
        the records of one partition did not land side by side.
        """

    async def offsets(self, tps: Sequence[TP]) -> dict[TP, tuple[int, int]]:
        """(start, end) of each partition: the first offset that is kept, and the offset of the next record."""

    async def read(self, tp: TP, offset: int, max_bytes: int = 1 << 20) -> Run:
        """Durable records from `offset` on: at least one if there is any, about `max_bytes` of values.

        Raises `Damaged` when `offset` is below the start or above the end.
        """

    async def delete_before(self, tp: TP, offset: int) -> None:
        """Forget the records below `offset`; the start becomes `offset`."""

    async def commit(self, group: str, offsets: Mapping[TP, int]) -> None:
        """Store the next offsets of a consumer group. A hint for lag tools; recovery does not trust it."""

    async def committed(self, group: str) -> dict[TP, int]:
        """The offsets stored by `commit`."""


class Member(Protocol):
    """The consumer of this process, as a stage needs it."""

    def seek_now(self, tp: TP, offset: int) -> None:
        """Read a source partition on from an offset."""

    async def commit_hint(self, offsets: Mapping[TP, int]) -> None:
        """Store offsets for lag tools. What goes wrong does not matter."""

    async def still_mine(self, offsets: Mapping[TP, int]) -> bool:
        """Ask the group whether it still gives these partitions to this process, by committing these offsets.

        After False the group calls: it takes them away, or gives them anew. Raises `Unavailable` when it is silent.
        """
