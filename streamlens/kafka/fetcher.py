"""A fetcher that hands out runs, and of the inputs of one partition the oldest records first.

The join needs requests and responses side by side. aiokafka fetches as many bytes of each topic, so the topic with the
smaller records would run ahead, and all that it brings would have to wait in the state.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition

from streamlens.kafka.records import RunRecords
from streamlens.log import Run
from streamlens.topics import SOURCES

_RUNS_PER_GROUP = 4
_ENOUGH_BYTES = 256 << 10
_IDLE_WAIT_MS = 150
"""A broker gathers so much, or for so long, before it answers: a run of one record costs as much as one of hundreds."""
_BUSY_WAIT_MS = 5
"""How long a broker may keep a fetch waiting while other partitions' records are at hand."""
_HELD_S = 1.0
"""How long one input of a partition waits for the others, when those have records but bring none."""
_HELD_POLL_S = 0.02


class RunFetcher(Fetcher):  # type: ignore[misc]  # aiokafka has no types
    """A fetcher whose buffered results hold `RunRecords`. An `AIOKafkaConsumer`'s own becomes one by `turn`."""

    _held_since: dict[tuple[bool, int], float]
    _calls: int

    @classmethod
    def turn(cls, fetcher: Fetcher) -> None:
        """Before its first request."""
        fetcher.__class__ = cls
        fetcher._prefetch_backoff = 0  # It waits until all that was fetched is taken.
        fetcher._fetch_min_bytes = _ENOUGH_BYTES
        fetcher._held_since = {}
        fetcher._calls = 0

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> bool:
        try:
            needs_wakeup = await super()._proc_fetch_request(assignment, node_id, request)
        except asyncio.CancelledError:
            return False  # In its back-off aiokafka lets it through, and `close`, which cancelled it, ends half way.
        for result in self._records.values():
            if type(result) is FetchResult and type(result._partition_records) is PartitionRecords:
                result._partition_records = RunRecords.of(result._partition_records)
        return bool(needs_wakeup)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        # There is one request to a broker at a time: what is drained next must not wait for what is idle.
        self._fetch_max_wait_ms = _BUSY_WAIT_MS if self._records else _IDLE_WAIT_MS
        return super()._get_actions_per_node(assignment)

    async def fetched_records(
        self,
        partitions: Collection[TopicPartition],
        timeout: float = 0,  # noqa: ASYNC109  # aiokafka's signature
        max_records: int | None = None,
    ) -> dict[TopicPartition, list[Run]]:
        """As aiokafka's, but about `max_records` runs, in the order of their time within a partition's inputs."""
        deadline = time.monotonic() + timeout
        while True:
            if self._subscriptions.reassignment_in_progress:
                await self._subscriptions.wait_for_assignment()
            found = self._take(partitions or self._assigned(), max_records or 1 << 30)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            waiter = self._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=min(left, _HELD_POLL_S) if self._held_since else left)
            if self._closed:
                waiter.cancel()
                return {}
            if done:
                waiter.result()  # raises what the coordinator has found out
            else:
                waiter.cancel()

    def _assigned(self) -> Collection[TopicPartition]:
        subscription = self._subscriptions.subscription
        return subscription.assignment.tps if subscription and subscription.assignment else ()

    def _take(self, partitions: Iterable[TopicPartition], limit: int) -> dict[TopicPartition, list[Run]]:
        """Runs of what is buffered. Raises a buffered error once nothing comes before it."""
        groups: dict[tuple[bool, int], list[TopicPartition]] = defaultdict(list)
        for tp in partitions:
            groups[tp[0] in SOURCES, tp[1]].append(tp)
        self._held_since = {group: since for group, since in self._held_since.items() if group in groups}
        found: dict[TopicPartition, list[Run]] = {}
        # Each call begins with another group: at the limit, those that come late would starve.
        turns = deque(groups)
        turns.rotate(self._calls)
        self._calls += 1
        for _ in range(_RUNS_PER_GROUP):
            for group in list(turns):
                tp = self._next(group, groups[group]) if limit > 0 else None
                if tp is None:
                    turns.remove(group)
                    continue
                result = self._records[tp]
                if type(result) is not FetchResult:
                    if not found:
                        self._forget(tp)
                        result.check_raise()
                    return found
                runs = result.getall(1)
                if not result.has_more() or result._partition_records.next_ms is None:
                    self._forget(tp)
                if runs:
                    found.setdefault(tp, []).extend(runs)
                    limit -= 1
        return found

    def _next(self, group: tuple[bool, int], members: list[TopicPartition]) -> TopicPartition | None:
        """The member whose records are the oldest, or with an error; None if nothing is buffered, or not yet all."""
        oldest, oldest_ms, is_behind = None, 0, False
        for tp in members:
            result = self._records.get(tp)
            if type(result) is FetchResult and not result.check_assignment(tp):
                self._forget(tp)  # It was sought, paused or taken away.
                result = None
            if result is None:
                is_behind = is_behind or self._is_behind(tp)
                continue
            ms = result._partition_records.next_ms if type(result) is FetchResult else None
            if oldest is None or (ms or 0) < oldest_ms:
                oldest, oldest_ms = tp, ms or 0
        if oldest is None or not is_behind:
            self._held_since.pop(group, None)
            return oldest
        since = self._held_since.setdefault(group, time.monotonic())
        return oldest if time.monotonic() - since >= _HELD_S else None

    def _is_behind(self, tp: TopicPartition) -> bool:
        """Whether there are records that are not fetched yet, as far as the last answer of the broker tells."""
        subscription = self._subscriptions.subscription
        if not subscription or not subscription.assignment or tp not in subscription.assignment.tps:
            return False
        state = subscription.assignment.state_value(tp)
        if state.paused:
            return False
        end = state.lso if self._isolation_level == READ_COMMITTED else state.highwater
        return end is None or not state.has_valid_position or bool(state.position < end)

    def _forget(self, tp: TopicPartition) -> None:
        """It is used up: fetch it again."""
        del self._records[tp]
        self._notify(self._wait_consume_future)
