"""Faust's Kafka transport, with runs of records as single messages and offsets that come from the units' state."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaConnectionError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import ConsumerMessage

from streamlens.errors import Unavailable, is_closed
from streamlens.kafka.consumer import RunConsumer
from streamlens.log import TP, Run
from streamlens.topics import PARTIALS
from streamlens.transports.producer import Producer

logger = structlog.get_logger()


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # faust's classes are untyped
    """Runs the group's member in its own thread and loop, as Faust does."""

    def _create_worker_consumer(self, transport: Any) -> RunConsumer:
        consumer: RunConsumer = super()._create_worker_consumer(transport)
        # Faust names aiokafka's class and isolation itself; both are read only when the consumer starts.
        consumer.__class__ = RunConsumer
        consumer._isolation_level = "read_committed"
        return consumer

    async def on_start(self) -> None:
        try:
            await super().on_start()
        except KafkaConnectionError as error:  # gone since our own clients have connected
            raise Unavailable(f"Kafka took no connection of the group's member: {error}") from error
        self._consumer._coordinator._coordination_task.add_done_callback(self._left)

    def _left(self, coordination: "asyncio.Task[None]") -> None:
        # aiokafka tells of this only when records are asked for, and without partitions nobody asks.
        if not coordination.cancelled() and (error := coordination.exception()):
            if is_closed(error):
                error = Unavailable(f"the connection to the group was closed: {error}")
            self.consumer.app.runtime.fatal(error)

    def close(self) -> None:
        """Nothing: where a rebalance meets a stop, Faust closes the member from the main thread, which uvloop does not
        bear (a segmentation fault). The stop of this thread closes it a little later."""

    async def commit_now(self, offsets: Mapping[TP, int]) -> None:
        """Commit as a member of the group. Raises a `KafkaError`."""
        await self.call_thread(self._commit_now, offsets)

    async def _commit_now(self, offsets: Mapping[TP, int]) -> None:
        try:
            await self._ensure_consumer().commit(
                {driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            )
        except RuntimeError as error:
            if not is_closed(error):
                raise
            raise KafkaConnectionError(str(error)) from error


class PartialsFirst(DefaultSchedulingStrategy):  # type: ignore[misc]  # faust's classes are untyped
    """Of what was fetched together, what stage one has sent goes before what it has still to count: rows wait for it,
    and it is little."""

    def iterate(self, records: Mapping[TP, list[Run]]) -> Iterator[tuple[TP, Run]]:
        topics = self.map_from_records(records)
        yield from topics.pop(PARTIALS, ())
        yield from self.records_iterator(topics)


class Consumer(driver.Consumer):  # type: ignore[misc]  # faust's classes are untyped
    """Reads runs. Where it stands follows from the units' state, never from a committed offset."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Start where the units' state ends. Called again at each resume, so it must be repeatable."""
        offsets = {tp: offset for tp, offset in self.app.runtime.source_offsets().items() if tp in self.assignment()}
        if offsets:
            await self.seek_wait(offsets)

    def seek_now(self, tp: TP, offset: int) -> None:
        """Read a partition from an offset, soon: the member lives in another thread."""
        self.add_future(self.seek_wait({tp: offset}))

    async def commit_hint(self, offsets: Mapping[TP, int]) -> None:
        """Store the units' offsets, for lag tools."""
        mine = self.assignment()
        try:
            await self._thread.commit_now({tp: offset for tp, offset in offsets.items() if tp in mine})
        except KafkaError as error:
            logger.info("group offsets not committed", reason=f"{type(error).__name__} {error}".strip())

    async def still_mine(self, offsets: Mapping[TP, int]) -> bool:
        """Ask the group: it refuses the commit of a member that it does not know any more, or that must join again."""
        if not offsets.keys() <= self.assignment():
            return False
        try:
            await self._thread.commit_now(offsets)
        except (CommitFailedError, IllegalStateError):
            return False
        except KafkaError as error:
            raise Unavailable(f"the group did not answer: {type(error).__name__} {error}") from error
        return True

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return True  # The checkpoint commits; Faust's acknowledgements do not fit runs.

    async def create_topic(self, topic: str, partitions: int, replication: int, **kwargs: Any) -> None:
        """Nothing: the runtime has made all topics before Faust starts."""

    def _to_message(self, tp: TP, run: Run) -> ConsumerMessage:
        generation = self.app.consumer_generation_id
        return ConsumerMessage(
            tp.topic, tp.partition, run.next - 1, 0.0, 0, [], None, run, None, 0, 0, tp, generation_id=generation
        )

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: it warns of commits that Faust does not make here."""


class Transport(driver.Transport):  # type: ignore[misc]  # faust's classes are untyped
    Consumer = Consumer
    Producer = Producer
