"""Offsets of a consumer group, read and stored from outside of it."""

from collections.abc import Mapping

from aiokafka.errors import NoError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest

from streamlens.kafka.connection import KafkaClient, by_topic
from streamlens.log import TP

_NO_GENERATION, _NO_MEMBER, _BROKERS_RETENTION = -1, "", -1


class Groups:
    """Works for a group without members; the broker refuses a commit to one that has some."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    async def commit(self, group: str, offsets: Mapping[TP, int]) -> None:
        """Store the next offsets. Raises `Unavailable`, also while the group has members."""
        if offsets:
            await self._client.answered("store offsets", lambda: self._commit(group, offsets))

    async def committed(self, group: str) -> dict[TP, int]:
        """The stored offsets; empty for a group that has none."""
        return await self._client.answered("give stored offsets", lambda: self._committed(group))

    async def _commit(self, group: str, offsets: Mapping[TP, int]) -> None:
        topics = by_topic({tp: (offset, "") for tp, offset in offsets.items()})
        request = OffsetCommitRequest(group, _NO_GENERATION, _NO_MEMBER, _BROKERS_RETENTION, topics)
        response = await self._client.send(await self._client.coordinator(group), request)
        for topic, partitions in response.topics:
            for partition, code in partitions:
                if (error := for_code(code)) is not NoError:
                    raise error(f"{topic}[{partition}]")

    async def _committed(self, group: str) -> dict[TP, int]:
        response = await self._client.send(await self._client.coordinator(group), OffsetFetchRequest(group, None))
        if (error := for_code(response.error_code)) is not NoError:
            raise error(group)
        found: dict[TP, int] = {}
        for topic, partitions in response.topics:
            for partition, offset, _, code in partitions:
                if (error := for_code(code)) is not NoError:
                    raise error(f"{topic}[{partition}]")
                if offset >= 0:
                    found[TP(topic, partition)] = offset
        return found
