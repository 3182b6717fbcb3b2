"""Faust's transport over the local log: one process owns all partitions, and one message is a run of records.

The log is the runtime's (`app.runtime.log`); this only shows it to Faust. There is no group protocol: all partitions of
the subscribed topics are assigned at once, and stay.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from faust.transport import base
from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import ConsumerMessage

from streamlens.locallog.local import LocalLog
from streamlens.log import FEW_RECORDS, LINGER_S, TP, Run
from streamlens.partitioner import partition_of
from streamlens.topics import SOURCES
from streamlens.transports.producer import Producer

_RUN_BYTES = 256 << 10


class Consumer(FaustConsumer):  # type: ignore[misc]  # faust's classes are untyped
    """Reads runs. Where it stands follows from the units' state, never from a committed offset."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._assigned: set[TP] = set()
        self._positions: dict[TP, int] = {}
        self._ahead: dict[TP, Run] = {}
        self._lingers = False

    @property
    def _log(self) -> LocalLog:
        log: LocalLog = self.app.runtime.log
        return log

    # -- assignment ----------------------------------------------------------------------------------------------

    async def subscribe(self, topics: Iterable[str]) -> None:
        # In a task: assigning waits for subscriptions, which are done when this call has returned.
        self.add_future(self._assign(set(topics)))

    async def _assign(self, topics: set[str]) -> None:
        partitions = self._log.topics()
        assigned = {TP(topic, p) for topic in topics for p in range(partitions[topic])}
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(set(self._assigned))
        self._assigned = assigned
        self.app.consumer_generation_id += 1  # recovery compares it with what the callback gets
        await self.on_partitions_assigned(set(assigned), self.app.consumer_generation_id)

    def assignment(self) -> set[TP]:
        return set(self._assigned)

    def topic_partitions(self, topic: str) -> int | None:
        return self._log.topics().get(topic)

    # -- positions -----------------------------------------------------------------------------------------------

    async def perform_seek(self) -> None:
        """Start where the units' state ends. Called again at each resume, so it must be repeatable."""
        for tp, offset in self.app.runtime.source_offsets().items():
            if tp in self._assigned:
                self.seek_now(tp, offset)

    async def commit_hint(self, offsets: Mapping[TP, int]) -> None:
        """Store the units' offsets, for the audit."""
        await self._log.commit(self.app.settings.consumer_group, offsets)

    async def still_mine(self, offsets: Mapping[TP, int]) -> bool:
        """There is no group: this process keeps its partitions."""
        return True

    def seek_now(self, tp: TP, offset: int) -> None:
        self._positions[tp] = offset
        self._read_offset[tp] = None

    async def _seek(self, partition: TP, offset: int) -> None:
        self._positions[partition] = offset

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            self.seek_now(tp, offset)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return dict(self._positions)

    async def position(self, tp: TP) -> int | None:
        return self._positions.get(tp)

    def highwater(self, tp: TP) -> int:
        return int(self._log.end_offset(tp))

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        return {tp: self._log.end_offset(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        return {tp: self._log.start_offset(tp) for tp in partitions}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return True  # The checkpoint commits; Faust's acknowledgements do not fit runs.

    # -- records -------------------------------------------------------------------------------------------------

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109  # Faust's signature
    ) -> dict[TP, list[Run]]:
        if self._lingers:
            await asyncio.sleep(LINGER_S)
            active_partitions = self._get_active_partitions()
        found = self._read(active_partitions or set())
        if not found:
            await self._log.wait_grown(timeout)
            found = self._read(self._get_active_partitions())
        self._lingers = 0 < sum(len(run.values) for runs in found.values() for run in runs) < FEW_RECORDS
        return found

    def _read(self, partitions: set[TP]) -> dict[TP, list[Run]]:
        """One run of each partition that has records; of its inputs the one that was appended first.

        So no partition gets far ahead of the others, and the halves of a call come side by side.
        """
        oldest: dict[tuple[bool, int], tuple[TP, Run]] = {}
        for tp in partitions:
            if run := self._next_run(tp):
                group = tp.topic in SOURCES, tp.partition
                if group not in oldest or run.appended_ms < oldest[group][1].appended_ms:
                    oldest[group] = tp, run
        for tp, run in oldest.values():
            self._positions[tp] = run.next
            del self._ahead[tp]
        return {tp: [run] for tp, run in oldest.values()}

    def _next_run(self, tp: TP) -> Run | None:
        """What is read from a partition next, kept until it is given away."""
        position = self._positions.get(tp)
        if position is None or position >= self._log.end_offset(tp):
            return None
        run = self._ahead.get(tp)
        if run is None or run.first != position:
            run = self._ahead[tp] = self._log.read_now(tp, position, _RUN_BYTES)
        return run

    def _to_message(self, tp: TP, run: Run) -> ConsumerMessage:
        generation = self.app.consumer_generation_id
        return ConsumerMessage(
            tp.topic, tp.partition, run.next - 1, 0.0, 0, [], None, run, None, 0, 0, tp, generation_id=generation
        )

    # -- what Faust asks besides ---------------------------------------------------------------------------------

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def create_topic(self, topic: str, partitions: int, replication: int, **kwargs: Any) -> None:
        """Nothing: the runtime has made all topics before Faust starts."""

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        return partition if partition is not None or key is None else partition_of(key, self._log.topics()[topic])

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """Nothing: recovery is ours."""


class Transport(base.Transport):  # type: ignore[misc]  # faust's classes are untyped
    Consumer = Consumer
    Producer = Producer
    driver_version = "local-log"
    default_port = 0
