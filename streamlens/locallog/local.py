"""`LocalLog`: the `Log` of a single process, in RocksDB below the data directory.

It belongs to one event loop. What it acknowledges was synced, and readers see only what was synced.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
from rocksdict import WriteBatch

from streamlens.errors import BadSetting, Damaged, StreamLensError, Unavailable
from streamlens.locallog.batch import batch_key
from streamlens.locallog.catalog import Catalog, Topic
from streamlens.locallog.database import explained, open_database
from streamlens.locallog.groupcommit import Columns, GroupCommit
from streamlens.locallog.partition import Partition
from streamlens.locallog.recoverypoint import RecoveryPoint
from streamlens.locallog.retention import new_starts
from streamlens.log import TP, Record, Run, TopicSpec

RETENTION_EVERY_S = 60.0

_log = structlog.get_logger()
_T = TypeVar("_T")


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class LocalLog:
    """Made by `open`. Provides `streamlens.log.Log`, and synchronous reads for the consumer in the same process."""

    def __init__(
        self,
        path: Path,
        db: Any,
        recovery_point: RecoveryPoint,
        *,
        sync: bool,
        read_only: bool,
        clock_ms: Callable[[], int],
        on_failure: Callable[[StreamLensError], None] | None,
        reader: str,
    ) -> None:
        self.path = path
        self.log_id = ""
        self._db = db
        self._catalog = Catalog(db)
        self._read_only = read_only
        self._clock_ms = clock_ms
        self._on_failure = on_failure
        self._reader = reader
        self._topics: dict[str, Topic] = {}
        self._partitions: dict[TP, Partition] = {}
        self._recovery_point = recovery_point
        self._group = GroupCommit(
            db, self._partitions, self._recovery_point, sync=sync, clock_ms=clock_ms, explain=self._failed
        )
        self._retention: asyncio.Task[None] | None = None
        if read_only:
            self._group.refuse(Unavailable(f"the log in {path} is open for reading only"))
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        sync: bool = True,
        read_only: bool = False,
        clock_ms: Callable[[], int] = _wall_ms,
        on_failure: Callable[[StreamLensError], None] | None = None,
        reader: str = "",
    ) -> "LocalLog":
        """Open the log in the directory `path`, or create it.

        `sync=False` leaves to the kernel when data reach the disk: a power cut may lose acknowledged records, a kill
        never. `read_only` opens beside the running process and sees what was there at this moment. `on_failure` is
        called once, when a write fails: nothing can be appended from then on and the process has to end. `reader` is
        a consumer group: what it has begun to read and not yet committed outlives its retention.

        Raises `Unavailable` when another process has it open, `Damaged` when the stored data contradict themselves.
        """
        recovery_point = RecoveryPoint(path)
        if read_only:
            db = recovery_point.open_reader()
        else:
            if recovery_point.read():
                recovery_point.open_reader().close()
            db = open_database(path, read_only=False)
        log = cls(
            path,
            db,
            recovery_point,
            sync=sync,
            read_only=read_only,
            clock_ms=clock_ms,
            on_failure=on_failure,
            reader=reader,
        )
        try:
            log._now(log._load)
        except StreamLensError:
            log.close()
            raise
        _log.info("log opened", path=str(path), log_id=log.log_id, topics=len(log._topics), read_only=read_only)
        return log

    async def start(self) -> None:
        """Begin to apply retention every minute."""
        if not self._read_only:
            self._retention = asyncio.create_task(self._apply_retention_for_ever(), name="log-retention")

    async def stop(self) -> None:
        """Write what waits, then close."""
        if self._retention is not None:
            self._retention.cancel()
            await asyncio.wait([self._retention])
        await self._group.drain()
        self.close()

    def close(self) -> None:
        """Close at once; appends that wait are lost. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._group.refuse(Unavailable(f"the log in {self.path} is closed"))
        self._recovery_point.close()
        try:
            self._db.close()
        except Exception as error:  # a full disk: what was acknowledged is in the write-ahead log
            _log.warning("log closed with an error", path=str(self.path), error=str(error))
        else:
            _log.info("log closed", path=str(self.path))

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        self._group.check()
        write = WriteBatch(raw_mode=True)
        created: dict[str, Topic] = {}
        next_id = max((t.id for t in self._topics.values()), default=0) + 1
        for spec in specs:
            known = created.get(spec.name) or self._topics.get(spec.name)
            if spec.partitions < 1 or not spec.name:
                raise BadSetting(f"topic {spec.name!r} needs a name and at least one partition")
            if known is not None and known.partitions != spec.partitions:
                raise BadSetting(f"topic {spec.name} has {known.partitions} partitions, not {spec.partitions}")
            topic_id = next_id + len(created) if known is None else known.id
            topic = Topic(topic_id, spec.partitions, spec.retention_ms, spec.retention_bytes)
            if topic != known:
                created[spec.name] = topic
                self._catalog.put_topic(write, spec.name, topic)
        if created:
            for name, topic in created.items():
                self._add_topic(name, topic)
            await self._group.write(write)

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        columns: dict[TP, Columns] = {}
        for tp, records in batches.items():
            self._partition(tp)
            keys, values = zip(*records, strict=True) if records else ((), ())
            columns[tp] = Columns(values, keys)
        return await self._group.append(columns)

    async def offsets(self, tps: Sequence[TP]) -> dict[TP, tuple[int, int]]:
        return {tp: (self.start_offset(tp), self.end_offset(tp)) for tp in tps}

    async def read(self, tp: TP, offset: int, max_bytes: int = 1 << 20) -> Run:
        return self.read_now(tp, offset, max_bytes)

    async def delete_before(self, tp: TP, offset: int) -> None:
        partition = self._partition(tp)
        if offset > partition.end:
            raise self._outside(partition, offset)
        if offset > partition.start:
            await self._delete({tp: offset})

    async def commit(self, group: str, offsets: Mapping[TP, int]) -> None:
        write = WriteBatch(raw_mode=True)
        for tp, offset in offsets.items():
            self._partition(tp)
            self._catalog.put_commit(write, group, self._topics[tp.topic].id, tp.partition, offset)
        self._group.write_lazily(write)

    async def committed(self, group: str) -> dict[TP, int]:
        names = {topic.id: name for name, topic in self._topics.items()}
        found = self._now(partial(self._catalog.commits, group))
        return {TP(names[topic_id], partition): offset for (topic_id, partition), offset in found.items()}

    def topics(self) -> dict[str, int]:
        """Names and numbers of partitions."""
        return {name: topic.partitions for name, topic in self._topics.items()}

    def start_offset(self, tp: TP) -> int:
        """The first offset that is kept."""
        return self._partition(tp).start

    def end_offset(self, tp: TP) -> int:
        """The offset after the last durable record."""
        return self._partition(tp).end

    def read_now(self, tp: TP, offset: int, max_bytes: int = 1 << 20) -> Run:
        """`read`, synchronously: whole stored batches, at least one, up to `max_bytes` and 2,000 records."""
        partition = self._partition(tp)
        if not partition.start <= offset <= partition.end:
            raise self._outside(partition, offset)
        return self._now(partial(partition.read, offset, max_bytes))

    async def wait_grown(self, timeout_s: float) -> bool:
        """Wait until records become durable, `timeout_s` seconds at most; False when none did.

        Any number of tasks may wait. Nothing is missed between finding nothing to read and calling this, as long as
        nothing is awaited in between.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._group.grown.wait()
        except TimeoutError:
            return False
        return True

    async def apply_retention(self, now_ms: int | None = None) -> dict[TP, int]:
        """Delete the oldest whole batches as the topics' settings say; the new starts of the partitions that moved."""
        self._group.check()
        now = self._clock_ms() if now_ms is None else now_ms
        unread = await self.committed(self._reader) if self._reader else {}
        moved = self._now(partial(new_starts, self._partitions, self._topics, unread, now))
        if moved:
            await self._delete(moved)
            _log.info("log retention", partitions=len(moved))
        return moved

    async def _apply_retention_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RETENTION_EVERY_S)
            try:
                await self.apply_retention()
            except Exception as error:
                self._group.end(error)
                return

    def _load(self) -> None:
        self._recovery_point.load(self._db)
        self.log_id = self._catalog.open(self.path, read_only=self._read_only).log_id
        for name, topic in self._catalog.topics().items():
            self._add_topic(name, topic)

    def _add_topic(self, name: str, topic: Topic) -> None:
        self._topics[name] = topic
        for number in range(topic.partitions):
            tp = TP(name, number)
            if tp not in self._partitions:
                self._partitions[tp] = Partition(self._db, tp, topic.id, self._catalog.start(topic.id, number))

    def _failed(self, error: Exception) -> StreamLensError:
        failure = error if isinstance(error, StreamLensError) else explained(self.path, error)
        _log.error("log failed", path=str(self.path), error=str(failure))
        if self._on_failure is not None:
            self._on_failure(failure)
        return failure

    async def _delete(self, starts: Mapping[TP, int]) -> None:
        self._group.check()
        write = WriteBatch(raw_mode=True)
        for tp, start in starts.items():
            partition = self._partitions[tp]
            stored = self._now(partial(partition.find, start))
            first_kept = stored.first if stored is not None and stored.next > start else start
            self._catalog.put_start(write, self._topics[tp.topic].id, tp.partition, start)
            write.delete_range(batch_key(partition.prefix, 0), batch_key(partition.prefix, first_kept))
            partition.start = start  # before it is durable: a reader must not meet the hole
        await self._group.write(write)

    def _partition(self, tp: TP) -> Partition:
        try:
            return self._partitions[tp]
        except KeyError:
            raise BadSetting(f"the log in {self.path} has no partition {tp.partition} of a topic {tp.topic}") from None

    def _now(self, action: Callable[[], _T]) -> _T:
        """Run `action`, which may raise what `explained` understands."""
        try:
            return action()
        except StreamLensError:
            raise
        except Exception as error:
            raise explained(self.path, error) from error

    def _outside(self, partition: Partition, offset: int) -> Damaged:
        return Damaged(
            f"the log in {self.path} holds [{partition.start}, {partition.end}) of {partition.tp.topic}"
            f"[{partition.tp.partition}], but {offset} was asked for: it and its reader do not belong together"
        )
