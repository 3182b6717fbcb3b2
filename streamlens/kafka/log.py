"""`KafkaLog`: the `Log` on Apache Kafka. It belongs to one event loop."""

import uuid
from collections.abc import Mapping, Sequence

import structlog

from streamlens.errors import Unavailable
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

    `log_id` is the id of the cluster, known from `start` on. With a `group`, `create_topics` and `identify` add the
    mark in that group's topic `<group>-identity`: a cluster that was wiped may have its old id, never the old mark.
    """

    def __init__(
        self,
        brokers: str,
        *,
        security: KafkaSecurity | None = None,
        group: str = "",
        client_id: str = "streamlens",
        deadline_s: float = DEADLINE_S,
        request_timeout_s: float = DEADLINE_S,
    ) -> None:
        connection = Connection(brokers, security or KafkaSecurity(), client_id, deadline_s, request_timeout_s)
        client = KafkaClient(connection)
        self._connection = connection
        self.log_id = ""
        self._mark = TP(f"{group}-identity", 0) if group else None
        self._topics = Topics(connection)
        self._producer = Producer(connection, self._topics.limits)
        self._client = client
        self._reader = Reader(client)
        self._groups = Groups(client)

    async def start(self) -> None:
        """Connect. Raises `Unavailable`, and `BadSetting` for what no retry heals."""
        quieten()
        await self._connection.check()
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
        _log.info("connected to kafka", brokers=self._connection.brokers, log_id=self.log_id)

    async def stop(self) -> None:
        """Send what waits, up to the deadline, then disconnect."""
        await self._producer.stop()
        await self._client.stop()
        await self._topics.stop()

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        if self._mark is None:
            await self._topics.create(specs)
            return
        await self._topics.create([*specs, TopicSpec(self._mark.topic, 1)])
        while (await self.offsets([self._mark]))[self._mark][1] == 0:
            await self.append({self._mark: [Record(None, uuid.uuid4().hex.encode())]})
        await self.identify()

    async def identify(self) -> None:
        """Add the group's mark to `log_id`: the first one written, when several workers began at once.

        Raises `Unavailable`, also where no worker has begun yet, and `Damaged` when it was deleted.
        """
        assert self._mark is not None, "made with a group"
        marks = (await self.read(self._mark, 0)).values
        if not marks:
            raise Unavailable(f"{self._mark.topic} is empty: no worker has begun yet")
        self.log_id = f"{await self._topics.cluster_id()}/{marks[0].decode()}"

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
