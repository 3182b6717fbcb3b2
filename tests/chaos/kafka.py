"""A cluster on Apache Kafka: workers reach the broker through a proxy, the suite reaches it directly."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from chaos.cluster import COUNTED, GROUP, PARTITIONS, SOURCES, Cluster
from chaos.proxy import KafkaWire, Proxy
from kafka_broker import KafkaBroker
from streamlens.errors import Unavailable
from streamlens.kafka.log import KafkaLog
from streamlens.log import TP, UNKNOWN_OFFSET, Record, TopicSpec
from streamlens.topics import SOURCES as TOPICS


class KafkaCluster(Cluster):
    """`log` is a client of our own. All workers share one proxy, the address that the broker advertises to them."""

    def __init__(self, directory: Path, workers: int, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, workers, environ)
        self.broker = KafkaBroker(directory / "kafka")
        self.connections = Proxy(self.broker.behind, KafkaWire, self.broker.proxy)
        self.log = KafkaLog(self.broker.brokers, client_id="chaos")

    async def _start_log(self) -> dict[str, str]:
        self.broker.start()
        self.connections.start()
        await self.log.start()
        await self.log.create_topics([TopicSpec(topic, PARTITIONS) for topic in TOPICS])
        return {"KAFKA_BROKERS": f"127.0.0.1:{self.connections.port}"}

    async def _remove_log(self) -> None:
        if self.log.log_id:
            await self.log.stop()
        self.connections.stop()
        self.broker.stop()

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, Sequence[Record]]:
        """By our own client, past the workers, as other producers do."""
        records = sum(map(len, batches.values()))
        self.sent += records
        try:
            bases = await self.log.append(batches)
        except Unavailable:  # nothing was sent
            self.sent -= records
            return dict(batches)
        return {tp: records for tp, records in batches.items() if bases[tp] == UNKNOWN_OFFSET}

    async def ends(self) -> int:
        return sum(end for _, end in (await self.log.offsets(SOURCES)).values())

    async def lag(self) -> int:
        offsets, committed = await self.log.offsets(COUNTED), await self.log.committed(GROUP)
        return sum(end - committed.get(tp, start) for tp, (start, end) in offsets.items())

    async def records(self) -> AsyncIterator[tuple[str, bytes, bytes]]:
        """By aiokafka alone, without any code of ours."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.broker.brokers, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await consumer.start()
        try:
            tps = [TopicPartition(*tp) for tp in SOURCES]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        yield record.topic, record.key, record.value
        finally:
            await consumer.stop()
