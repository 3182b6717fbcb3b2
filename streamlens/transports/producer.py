"""Lets Faust's own `topic.send` write to the runtime's log; the pipeline itself appends batches, past Faust."""

import asyncio
from typing import Any

from faust.transport import base
from faust.types.tuples import RecordMetadata

from streamlens.log import TP, Record
from streamlens.partitioner import partition_of


class Producer(base.Producer):  # type: ignore[misc]  # faust's classes are untyped
    """One producer for the process, whatever the broker: idempotent and acknowledged as the log is."""

    async def create_topic(self, topic: str, partitions: int, replication: int, **kwargs: Any) -> None:
        """Nothing: the runtime has made all topics before Faust starts."""

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> "asyncio.Future[RecordMetadata]":
        tp = TP(topic, partition) if partition is not None else self.key_partition(topic, key or b"")
        offsets = await self.app.runtime.log.append({tp: [Record(key, value or b"")]})
        done: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        done.set_result(RecordMetadata(tp.topic, tp.partition, tp, offsets[tp]))
        return done

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        return await (await self.send(*args, **kwargs))

    def key_partition(self, topic: str, key: bytes) -> TP:
        return TP(topic, partition_of(key, self.app.settings.partitions))

    def supports_headers(self) -> bool:
        return False

    async def flush(self) -> None:
        await self.buffer.flush()
