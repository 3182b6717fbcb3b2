"""An aiokafka consumer that gives runs of values instead of records; everything else about it is aiokafka's."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition

from streamlens.kafka.records import MAX_RECORDS, RunRecords
from streamlens.log import Run


class RunFetcher(Fetcher):  # type: ignore[misc]  # aiokafka has no types
    """A fetcher whose buffered results hold `RunRecords`."""

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> bool:
        try:
            needs_wakeup = await super()._proc_fetch_request(assignment, node_id, request)
        except asyncio.CancelledError:
            return False  # In its back-off aiokafka lets it through, and `close`, which cancelled it, ends half way.
        for result in self._records.values():
            if type(result) is FetchResult and type(result._partition_records) is PartitionRecords:
                result._partition_records = RunRecords.of(result._partition_records)
        return bool(needs_wakeup)


class RunConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """Use `getruns` in place of `getmany` and `getone`. Position, pause, seek and groups work on offsets as before."""

    @property
    def _fetcher(self) -> Any:
        return self.__dict__["_fetcher"]

    @_fetcher.setter
    def _fetcher(self, fetcher: Fetcher | None) -> None:
        # `start` names the class itself, so this is the moment between the fetcher's making and its first request.
        if fetcher is not None:
            fetcher.__class__ = RunFetcher
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
