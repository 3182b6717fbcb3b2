"""A backlog in a log: calls of the last minutes, requests in the order in which they began, responses as they ended."""

import asyncio
import heapq
import time
from collections.abc import Iterable, Iterator

from bench.traffic import MadeCall, Traffic
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Record, TopicSpec
from streamlens.partitioner import partition_of
from streamlens.topics import CALLS, INPUTS, METRICS, PARTIALS, REQUESTS, RESPONSES

Batches = dict[TP, list[Record]]

PARTITIONS = 8
SPAN_US = 600_000_000
"""So far back it goes."""
_KEPT_MS = 24 * 3_600_000
"""As a worker would make the topics."""
_LONGEST_US = 30_000_000
_CALLS = 4_000
"""Appended at once, while the next ones are made."""


async def fill(log: Log, traffic: Traffic, calls: int) -> None:
    """Append `calls` calls, spread evenly over `SPAN_US`; the last ones have just ended."""
    await _append_all(log, _in_halves(traffic, calls))


async def fill_whole(log: Log, traffic: Traffic, calls: int) -> None:
    """Append `calls` calls of one event each, spread evenly over `SPAN_US`, however slowly; few are in memory."""
    await _append_all(log, _in_one(traffic, calls))


def _in_halves(traffic: Traffic, calls: int) -> Iterator[Batches]:
    begin_us = time.time_ns() // 1000 - SPAN_US - _LONGEST_US
    ended: list[tuple[int, bytes, bytes]] = []
    for first in range(0, calls, _CALLS):
        batches: Batches = {}
        at_us = begin_us
        for n in range(first, min(first + _CALLS, calls)):
            at_us = begin_us + n * SPAN_US // calls
            call = traffic.call(at_us)
            put(batches, REQUESTS, call.key, call.request)
            heapq.heappush(ended, (call.ends_us, call.key, call.response))
        while ended and (ended[0][0] <= at_us or first + _CALLS >= calls):
            _, key, response = heapq.heappop(ended)
            put(batches, RESPONSES, key, response)
        yield batches


def _in_one(traffic: Traffic, calls: int) -> Iterator[Batches]:
    begin_us = time.time_ns() // 1000 - SPAN_US
    for first in range(0, calls, _CALLS):
        batches: Batches = {}
        for n in range(first, min(first + _CALLS, calls)):
            call = traffic.call(begin_us + n * SPAN_US // calls)
            put(batches, CALLS, call.key, whole(call))
        yield batches


async def _append_all(log: Log, made: Iterable[Batches]) -> None:
    """Append, while the next ones are made."""
    await log.create_topics([TopicSpec(topic, PARTITIONS, _KEPT_MS) for topic in INPUTS])
    under_way: asyncio.Task[None] | None = None
    for batches in made:
        if under_way is not None:
            await under_way
        under_way = asyncio.create_task(append(log, batches))
        await asyncio.sleep(0)
    if under_way is not None:
        await under_way


def whole(call: MadeCall) -> bytes:
    """A call as one event."""
    return call.request[:-1] + b"," + call.response[call.response.index(b'"latency_ms"') :]


async def append(log: Log, batches: Batches) -> None:
    """Append; a benchmark needs to know that all is there, once."""
    offsets = await log.append(batches)
    if UNKNOWN_OFFSET in offsets.values():
        raise RuntimeError("nobody knows whether the events were written")


async def forget(log: Log, topics: tuple[str, ...] = (*INPUTS, PARTIALS, METRICS)) -> None:
    """Delete what is in `topics`, those that do not exist aside."""
    await log.create_topics([TopicSpec(topic, PARTITIONS, _KEPT_MS) for topic in topics])
    tps = [TP(topic, partition) for topic in topics for partition in range(PARTITIONS)]
    for tp, (start, end) in (await log.offsets(tps)).items():
        if end > start:
            await log.delete_before(tp, end)


def put(batches: Batches, topic: str, key: bytes, value: bytes) -> None:
    """Add an event to what goes to its partition."""
    batches.setdefault(TP(topic, partition_of(key, PARTITIONS)), []).append(Record(key, value))
