"""Reading without a group and without a task: one request, one answer, for any partition and any offset."""

import asyncio
from collections.abc import Sequence

from aiokafka.consumer.fetcher import READ_COMMITTED, OffsetResetStrategy
from aiokafka.errors import CorruptRecordException, NoError, OffsetOutOfRangeError, RequestTimedOutError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from streamlens.errors import Damaged
from streamlens.kafka.connection import KafkaClient, by_topic
from streamlens.kafka.records import runs_of
from streamlens.log import TP, Run

_WITH_PREFERRED_REPLICA = 11
"""The version of fetch answers that put a field between the aborted transactions and the records."""


class Reader:
    """Offsets and committed records. Any number of calls at once."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    async def offsets(self, tps: Sequence[TP]) -> dict[TP, tuple[int, int]]:
        """(start, end) of each; the end is the last stable offset, before which no transaction is open."""
        starts, ends = await asyncio.gather(
            self._client.answered("list offsets", lambda: self._list(tps, OffsetResetStrategy.EARLIEST)),
            self._client.answered("list offsets", lambda: self._list(tps, OffsetResetStrategy.LATEST)),
        )
        return {tp: (starts[tp], ends[tp]) for tp in tps}

    async def read(self, tp: TP, offset: int, max_bytes: int) -> Run:
        """One run from `offset` on; empty at the end.

        Raises `Damaged` outside of what the partition holds, and for a wrong checksum.
        """
        return await self._client.answered("let read", lambda: self._fetch(tp, offset, max_bytes))

    async def check(self, tp: TP, offset: int) -> None:
        """Raise `Damaged` when `offset` is below the start or above the end of the partition."""
        start, end = (await self.offsets([tp]))[tp]
        if not start <= offset <= end:
            raise Damaged(
                f"Kafka at {self._client.connection.brokers} holds [{start}, {end}) of {tp.topic}[{tp.partition}], "
                f"but {offset} was asked for: it and its reader do not belong together"
            )

    async def _list(self, tps: Sequence[TP], which: int) -> dict[TP, int]:
        found: dict[TP, int] = {}
        for node, led in (await self._client.leaders(tps)).items():
            request = OffsetRequest(-1, READ_COMMITTED, by_topic(dict.fromkeys(led, (which,))))
            for topic, partitions in (await self._client.send(node, request)).topics:
                for partition, code, _, offset in partitions:
                    if (error := for_code(code)) is not NoError:
                        raise error(f"{topic}[{partition}]")
                    found[TP(topic, partition)] = offset
        return found

    async def _fetch(self, tp: TP, offset: int, max_bytes: int) -> Run:
        node = next(iter(await self._client.leaders([tp])))
        # Waits for nothing: a connection answers in order, and others read through it too. At least a whole batch
        # comes, however small `max_bytes` is.
        request = FetchRequest(0, 1, max_bytes, READ_COMMITTED, by_topic({tp: (offset, max_bytes)}))
        response = await self._client.send(node, request)
        ((_, ((_, code, _, stable_end, *fields),)),) = response.topics
        error = for_code(code)
        if error is OffsetOutOfRangeError:
            await self.check(tp, offset)
            raise RequestTimedOutError("the leader has just changed")
        if error is not NoError:
            raise error(f"{tp.topic}[{tp.partition}]")
        aborted = fields[-3 if response.API_VERSION >= _WITH_PREFERRED_REPLICA else -2]
        try:
            run: Run | None = next(runs_of(TopicPartition(*tp), fields[-1], offset, aborted, max_bytes), None)
        except CorruptRecordException as error:
            raise Damaged(f"{tp.topic}[{tp.partition}] is damaged at {offset} or after: {error}") from error
        if run is None and offset < stable_end:
            raise RequestTimedOutError(f"nothing came of {tp.topic}[{tp.partition}] from {offset}")
        return run or Run(offset, offset, [])
