"""Group commit to Kafka: appends that arrive while a request is under way share the next one.

Nothing waits while the brokers are idle. aiokafka keeps one request under way for each broker and one batch for each
partition, so batches are built as late as its next request.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder

from streamlens.errors import BadEvent, Unavailable
from streamlens.kafka.batches import BATCH_BYTES, Batch, Call, Part, cut, fit
from streamlens.kafka.connection import Connection
from streamlens.log import TP, UNKNOWN_OFFSET, Record

MAX_WAITING_BYTES = 32 << 20
"""Appended, not yet acknowledged. More is refused: slow brokers are to be felt by the senders, not by the memory."""

MAX_TAKEN_BYTES = 2 * BATCH_BYTES
"""Of one partition at once, unless a single append is larger: building batches holds the event loop."""

DEFAULT_LIMIT = 1 << 20
"""Kafka's default `max.message.bytes`, less a little: for a topic whose real one was never read."""

COMPRESSION = "zstd"
"""Measured on events of 250 bytes: 0.4 us an event and 14 % of the bytes; snappy 0.4 and 29 %, lz4 2.4 and 22 %.

Readers win as well: with so much less to receive they take half the time, though they have to decompress.
"""

COMPRESSED_FROM_BYTES = 2 << 10
"""Smaller batches stay as they are: compressing one costs 25 us, and of single events it often holds only three."""

_MAX_BATCH_BYTES = 16 << 20
"""For aiokafka. What goes into a batch was decided before."""

_NONE = 0
"""The number of no compression in a batch's attributes."""

_STUCK_S = 1.0
"""So long do other partitions of a broker wait for one that is not acknowledged, once."""

_log = structlog.get_logger()


class Producer:
    """One idempotent producer, `acks=all`. `limits` are the topics' `max.message.bytes`."""

    def __init__(self, connection: Connection, limits: Mapping[str, int]) -> None:
        self._connection = connection
        self._limits = limits
        self._producer: AIOKafkaProducer
        self._spoiled = False
        self._renewing = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()
        self._queues: defaultdict[TP, deque[Part]] = defaultdict(deque)
        self._sends: dict[TP, asyncio.Task[None]] = {}
        self._serving: dict[int | None, asyncio.Task[None]] = {}
        self._last: dict[TP, int] = {}
        self._waiting_bytes = 0
        self._stopping = False

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        self._producer = self._new()
        try:
            await self._connection.answered("take a connection", self._producer.start)
        except BaseException:
            await _end(self._producer, 0)
            raise

    async def stop(self) -> None:
        """Take no more, wait for what is under way, up to the deadline."""
        self._stopping = True
        tasks = {*self._serving.values(), *self._sends.values()}
        if tasks:
            await asyncio.wait(tasks, timeout=self._connection.deadline_s)
        for task in (*self._serving.values(), *self._sends.values(), *self._retired):
            task.cancel()
        await _end(self._producer, self._connection.deadline_s if not self._sends else 0)

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        """`Log.append`. Raises `BadEvent` for a record that its topic does not take, before anything is sent.

        Raises `Unavailable` when nothing of it was sent: too much waits already, or the deadline came first. After
        the deadline the records that were handed over are still written in their turn, once.
        """
        call = Call(batches)
        self._check(call.parts)
        if not call.parts:
            return {}
        size = sum(part.size for part in call.parts.values())
        if self._stopping or (self._waiting_bytes and self._waiting_bytes + size > MAX_WAITING_BYTES):
            raise Unavailable(
                "the log is stopping" if self._stopping else f"{self._waiting_bytes} bytes wait for Kafka"
            )
        self._waiting_bytes += size
        for tp, part in call.parts.items():
            self._queues[tp].append(part)
        self._wake(call.parts)
        deadline = asyncio.get_running_loop().call_later(self._connection.deadline_s, call.end)
        try:
            await call.done
        finally:
            deadline.cancel()
            for tp, part in call.parts.items():
                if not part.is_taken:
                    self._queues[tp].remove(part)
                    self._waiting_bytes -= part.size
        if not any(part.is_taken for part in call.parts.values()):
            raise Unavailable(f"Kafka at {self._connection.brokers} took nothing for {self._connection.deadline_s:g} s")
        return call.offsets()

    def _check(self, parts: Mapping[TP, Part]) -> None:
        # A batch that the broker refuses leaves a gap in the producer's sequence, and it takes nothing more from it.
        for tp, part in parts.items():
            limit = self._limits.get(tp.topic, DEFAULT_LIMIT)
            if not fit(part, limit):
                largest = max(len(record.value) for record in part.records)
                raise BadEvent("", f"a record of {largest} bytes; {tp.topic} takes up to {limit}")

    # -- requests ------------------------------------------------------------------------------------------------

    def _wake(self, tps: Iterable[TP]) -> None:
        """See to it that the brokers are served that lead those of these partitions that have something to send."""
        if self._stopping:
            return
        for tp in tps:
            if self._queues[tp] and tp not in self._sends and (node := self._leader(tp)) not in self._serving:
                self._serving[node] = asyncio.create_task(self._serve(node), name="kafka-append")

    async def _serve(self, node: int | None) -> None:
        """Send what waits for one broker, request after request, until nothing does."""
        try:
            while sends := [
                self._send_later(tp) for tp, queue in self._queues.items() if self._is_due(tp, queue, node)
            ]:
                await asyncio.wait(sends, timeout=_STUCK_S)
                self._wake(self._queues)  # for what another broker leads by now
        finally:
            del self._serving[node]
            self._wake(self._queues)

    def _is_due(self, tp: TP, queue: deque[Part], node: int | None) -> bool:
        return bool(queue) and tp not in self._sends and self._leader(tp) == node

    def _send_later(self, tp: TP) -> asyncio.Task[None]:
        queue = self._queues[tp]
        parts, size = [queue.popleft()], 0
        while queue and (size := size + parts[-1].size) + queue[0].size <= MAX_TAKEN_BYTES:
            parts.append(queue.popleft())
        for part in parts:
            part.is_taken = True
        task = self._sends[tp] = asyncio.create_task(self._send(tp, parts), name="kafka-send")
        task.add_done_callback(lambda _: self._sent(tp))
        return task

    def _sent(self, tp: TP) -> None:
        del self._sends[tp]
        self._wake((tp,))

    async def _send(self, tp: TP, parts: Sequence[Part]) -> None:
        """Send parts of one partition and settle them all, however long it takes: the order is kept by waiting."""
        size = sum(part.size for part in parts)
        batches = cut(parts, self._limits.get(tp.topic, DEFAULT_LIMIT))
        acks: list[asyncio.Future[object]] = []
        try:
            producer = await self._fit_producer()
            for batch in batches:
                is_small = size < COMPRESSED_FROM_BYTES
                builder = BatchBuilder(_MAX_BATCH_BYTES, _NONE) if is_small else producer.create_batch()
                batch.fill(builder, time.time_ns() // 1_000_000)
                # Returns when the batch before it is under way; a batch may be resent, but never overtaken.
                acks.append(await producer.send_batch(builder, tp.topic, partition=tp.partition))
        except (KafkaTimeoutError, UnknownTopicOrPartitionError) as error:  # before the batch had its sequence number
            _log.warning("append not sent", topic=tp.topic, partition=tp.partition, error=repr(error))
        except Exception as error:
            self._spoil(tp, error)
        results = await asyncio.gather(*acks, return_exceptions=True)
        for batch, result in zip(batches, [*results, *[None] * (len(batches) - len(acks))], strict=True):
            if isinstance(result, BaseException):
                self._spoil(tp, result)
            batch.settle(self._acknowledged(tp, batch, getattr(result, "offset", UNKNOWN_OFFSET)))
        self._waiting_bytes -= size

    def _acknowledged(self, tp: TP, batch: Batch, base: int) -> int:
        """`base`, if it can be where our batch is: aiokafka makes offsets up after some retries, and those are low."""
        if base <= self._last.get(tp, -1):
            return UNKNOWN_OFFSET
        self._last[tp] = base + batch.size - 1
        return base

    # -- the producer --------------------------------------------------------------------------------------------

    def _new(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._connection.arguments(),
            enable_idempotence=True,
            acks="all",
            compression_type=COMPRESSION,
            max_batch_size=_MAX_BATCH_BYTES,
        )

    def _leader(self, tp: TP) -> int | None:
        node: int | None = self._producer.client.cluster.leader_for_partition(tp)
        return node

    def _spoil(self, tp: TP, error: BaseException) -> None:
        """A batch failed for good, so the partition has a gap in its sequence: only another producer can go on."""
        _log.warning("append failed", topic=tp.topic, partition=tp.partition, error=repr(error))
        self._spoiled = True

    async def _fit_producer(self) -> AIOKafkaProducer:
        if self._spoiled:
            async with self._renewing:
                if self._spoiled:  # nobody else has renewed it meanwhile
                    await self._renew()
        return self._producer

    async def _renew(self) -> None:
        fresh = self._new()
        try:
            await self._connection.answered("take a connection", fresh.start)
        except BaseException:
            await _end(fresh, 0)
            raise
        old, self._producer, self._spoiled = self._producer, fresh, False
        task = asyncio.create_task(_end(old, 10 * self._connection.deadline_s), name="kafka-producer-end")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)
        _log.info("producer renewed")


async def _end(producer: AIOKafkaProducer, patience_s: float) -> None:
    """Stop; after `patience_s` seconds without waiting for what is under way."""
    try:
        async with asyncio.timeout(patience_s):
            await producer.stop()
    except (TimeoutError, asyncio.CancelledError):
        # Its sender waits for answers: without connections they fail.
        await producer.client.close()
        if producer._sender.sender_task is not None:
            producer._sender.sender_task.cancel()
