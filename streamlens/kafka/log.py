"""`KafkaLog`: the `Log` on Apache Kafka. It belongs to one event loop."""

from collections.abc import Mapping, Sequence

import structlog

from streamlens.kafka.connection import Connection, KafkaClient, KafkaSecurity
from streamlens.kafka.groups import Groups
from streamlens.kafka.producer import Producer
from streamlens.kafka.quiet import quieten
from streamlens.kafka.reader import Reader
from streamlens.kafka.topics import Topics
from streamlens.log import TP, Record, Run, TopicSpec

DEADLINE_S = 10.0
"""A broker's crash is noticed by its cluster after 9 s; then others lead its partitions."""

_log = structlog.get_logger()


class KafkaLog:
    """Provides `streamlens.log.Log`. Every call ends by `deadline_s`; the log heals by itself when brokers are back.

    `log_id` is the id of the cluster, known from `start` on.
    """

    def __init__(
        self,
        brokers: str,
        *,
        security: KafkaSecurity | None = None,
        client_id: str = "streamlens",
        deadline_s: float = DEADLINE_S,
        request_timeout_s: float = DEADLINE_S,
    ) -> None:
        connection = Connection(brokers, security or KafkaSecurity(), client_id, deadline_s, request_timeout_s)
        client = KafkaClient(connection)
        self._brokers = brokers
        self.log_id = ""
        self._topics = Topics(connection)
        self._producer = Producer(connection, self._topics.limits)
        self._client = client
        self._reader = Reader(client)
        self._groups = Groups(client)

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        quieten()
        started: list[Topics | KafkaClient | Producer] = []
        try:
            for part in (self._topics, self._client, self._producer):
                await part.start()
                started.append(part)
            self.log_id = await self._topics.cluster_id()
        except BaseException:
            for part in started:
                await part.stop()
            raise
        _log.info("connected to kafka", brokers=self._brokers, log_id=self.log_id)

    async def stop(self) -> None:
        """Send what waits, up to the deadline, then disconnect."""
        await self._producer.stop()
        await self._client.stop()
        await self._topics.stop()

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._topics.create(specs)

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        return await self._producer.append(batches)

    async def offsets(self, tps: Sequence[TP]) -> dict[TP, tuple[int, int]]:
        return await self._reader.offsets(tps)

    async def read(self, tp: TP, offset: int, max_bytes: int = 1 << 20) -> Run:
        return await self._reader.read(tp, offset, max_bytes)

    async def delete_before(self, tp: TP, offset: int) -> None:
        await self._topics.delete_before(tp, offset)

    async def commit(self, group: str, offsets: Mapping[TP, int]) -> None:
        await self._groups.commit(group, offsets)

    async def committed(self, group: str) -> dict[TP, int]:
        return await self._groups.committed(group)
