"""An aiokafka consumer that gives runs of values instead of records; everything else about it is aiokafka's."""

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.structs import TopicPartition

from streamlens.kafka.fetcher import RunFetcher
from streamlens.kafka.records import MAX_RECORDS
from streamlens.log import Run


class RunConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """Use `getruns` in place of `getmany` and `getone`. Position, pause, seek and groups work on offsets as before."""

    @property
    def _fetcher(self) -> Any:
        return self.__dict__["_fetcher"]

    @_fetcher.setter
    def _fetcher(self, fetcher: Fetcher | None) -> None:
        # `start` names the class itself, so this is the moment between the fetcher's making and its first request.
        if fetcher is not None:
            RunFetcher.turn(fetcher)
        self.__dict__["_fetcher"] = fetcher

    async def getruns(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int = 5 * MAX_RECORDS
    ) -> dict[TopicPartition, list[Run]]:
        """The runs that were fetched, waiting `timeout_ms` for the first: one run or more, about `max_records` at most.

        Raises what `getmany` raises.
        """
        runs: dict[TopicPartition, list[Run]] = await self.getmany(
            *partitions, timeout_ms=timeout_ms, max_records=max(1, max_records // MAX_RECORDS)
        )
        return runs
