"""Group commit: appends that arrive while a sync runs are written together and share the next sync."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from rocksdict import WriteBatch

from streamlens.errors import StreamLensError, Unavailable
from streamlens.locallog.partition import Partition
from streamlens.locallog.recoverypoint import RecoveryPoint
from streamlens.log import TP

MAX_WAITING_BYTES = 32 << 20
"""Appended, not yet durable. More is refused, so that a slow disk is felt by the senders and not by the memory."""

MAX_GROUP_BYTES = 4 << 20
"""Of one group, unless a single append is larger: packing it holds the event loop for some milliseconds."""

RECORD_BYTES = 64
"""Counted for each record besides its value, so that very many tiny ones are bounded too."""


class Columns(NamedTuple):
    """Records of one partition, values and keys apart."""

    values: tuple[bytes, ...]
    keys: tuple[bytes | None, ...]


class Append(NamedTuple):
    """One call of `append` that waits. All its records are in one group, so in one atomic write."""

    batches: Mapping[TP, Columns]
    size: int
    done: asyncio.Future[dict[TP, int]]


class GroupCommit:
    """The queue in front of the database, and the one task that empties it while there is something in it.

    The first write or sync that fails ends it: after a failed sync nobody knows what is on disk, so there is no retry.
    `explain` turns that error into the one that everybody gets from then on. Without `sync` the kernel decides when
    data reach the disk.
    """

    def __init__(
        self,
        db: Any,
        partitions: Mapping[TP, Partition],
        recovery_point: RecoveryPoint,
        *,
        sync: bool,
        clock_ms: Callable[[], int],
        explain: Callable[[Exception], StreamLensError],
    ) -> None:
        self.grown = asyncio.Event()
        """Set, and replaced by a new one, when records became durable."""
        self._db = db
        self._partitions = partitions
        self._recovery_point = recovery_point
        self._sync_wanted = sync
        self._clock_ms = clock_ms
        self._explain = explain
        # A thread of its own, so that a sync never queues behind other work in the default executor.
        self._thread = ThreadPoolExecutor(1, "log-sync")
        self._queue: deque[Append] = deque()
        self._writing: list[Append] = []
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._refusal: StreamLensError | None = None
        self._ended = False

    async def append(self, batches: Mapping[TP, Columns]) -> dict[TP, int]:
        """Wait until the records are durable; the offset of the first of each partition.

        Raises `Unavailable` when too much waits already, or the error that ended the log.
        """
        self.check()
        size = sum(sum(map(len, c.values)) + RECORD_BYTES * len(c.values) for c in batches.values())
        if self._waiting_bytes and self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise Unavailable(f"the log has {self._waiting_bytes} bytes waiting for the disk")
        append = Append(batches, size, asyncio.get_running_loop().create_future())
        self._queue.append(append)
        self._waiting_bytes += size
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="log-group-commit")
        return await append.done

    async def write(self, write: WriteBatch) -> None:
        """Write something other than records, and wait until it is durable."""
        self.check()
        try:
            number = self._recovery_point.stamp(write)
            self._db.write(write)
            await self._sync(number)
        except Exception as error:
            raise self.end(error) from error

    def write_lazily(self, write: WriteBatch) -> None:
        """Write something that may be lost in a power cut; the next sync takes it along."""
        self.check()
        try:
            self._db.write(write)
        except Exception as error:
            raise self.end(error) from error

    def check(self) -> None:
        """Raise what `append` would raise because the log has ended or is about to."""
        if self._refusal is not None:
            raise self._refusal

    async def drain(self) -> None:
        """Take no more, and wait until nothing waits."""
        self._refusal = self._refusal or Unavailable("the log is stopping")
        if self._task is not None:
            await asyncio.wait([self._task])

    def end(self, error: Exception) -> StreamLensError:
        """End because of `error`; returns what everybody gets from now on."""
        if self._ended and self._refusal is not None:
            return self._refusal
        failure = self._explain(error)
        self.refuse(failure)
        return failure

    def refuse(self, refusal: StreamLensError) -> None:
        """Refuse what waits and all that comes. What was being written may or may not be there after a restart."""
        self._ended, self._refusal = True, refusal
        for append in (*self._writing, *self._queue):
            if not append.done.done():
                append.done.set_exception(refusal)
        self._queue.clear()
        self._thread.shutdown()

    async def _run(self) -> None:
        try:
            while self._queue:
                self._take()
                write, bases = self._pack()
                number = self._recovery_point.stamp(write)
                self._db.write(write)
                await self._sync(number)
                if self._ended:  # closed, or another write failed meanwhile
                    break
                self._acknowledge(bases)
        except Exception as error:
            self.end(error)
        finally:
            self._task = None

    def _take(self) -> None:
        self._writing = [self._queue.popleft()]
        size = self._writing[0].size
        while self._queue and size + self._queue[0].size <= MAX_GROUP_BYTES:
            self._writing.append(self._queue.popleft())
            size += self._writing[-1].size

    def _pack(self) -> tuple[WriteBatch, list[dict[TP, int]]]:
        """The whole group as one write, and the base offsets of each append."""
        bases: list[dict[TP, int]] = []
        merged: dict[TP, tuple[list[bytes], list[bytes | None]]] = {}
        for append in self._writing:
            base = {}
            for tp, (values, keys) in append.batches.items():
                all_values, all_keys = merged.setdefault(tp, ([], []))
                base[tp] = self._partitions[tp].reserved + len(all_values)
                all_values += values
                all_keys += keys
            bases.append(base)
        now_ms = self._clock_ms()
        write = WriteBatch(raw_mode=True)
        for tp, (all_values, all_keys) in merged.items():
            self._partitions[tp].reserve(write, all_values, all_keys, now_ms)
        return write, bases

    async def _sync(self, number: int) -> None:
        if self._sync_wanted:
            # A `write` with sync would hold the GIL for as long as the disk takes; `flush_wal` releases it.
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.flush_wal, True)
            self._recovery_point.move(number)

    def _acknowledge(self, bases: list[dict[TP, int]]) -> None:
        for append, base in zip(self._writing, bases, strict=True):
            for tp in base:
                self._partitions[tp].end = self._partitions[tp].reserved
            self._waiting_bytes -= append.size
            if not append.done.done():  # its caller may have been cancelled
                append.done.set_result(base)
        self._writing = []
        self.grown.set()
        self.grown = asyncio.Event()
