"""Kafka when the broker dies, freezes, loses an answer or refuses: what was acknowledged is there once, as was said.

What aiokafka 0.14 acknowledges after a lost answer, seen here on Apache Kafka 4.1: it sends the batch again under the
same sequence number, the broker recognises it as one of the last five of this producer, does not write it, and answers
without an error and with the offset of the first writing. So `DuplicateSequenceNumber`, after which aiokafka counts
offsets from -1, does not come up: it has one batch of a partition under way, so a retry is always of the newest.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import DuplicateSequenceNumber
from aiokafka.producer.sender import SendProduceReqHandler

from kafka_broker import KafkaBroker
from kafka_proxy import KafkaProxy
from log_contract import make_topic, numbered, read_all, records
from streamlens.errors import BadEvent, Unavailable
from streamlens.kafka import KafkaLog
from streamlens.log import TP, UNKNOWN_OFFSET, Record

DEADLINE_S = 1.0
REQUEST_TIMEOUT_S = 0.7
"""Shorter, so that connections are given up and batches sent again while the first sending may yet arrive."""


@pytest.fixture
def broker(kafka_broker: KafkaBroker) -> Iterator[KafkaBroker]:
    """The broker of this run, to be left as it was found."""
    yield kafka_broker
    kafka_broker.resume()
    if not kafka_broker.is_running():
        kafka_broker.start()


@pytest.fixture
async def log(broker: KafkaBroker) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(broker.brokers, deadline_s=DEADLINE_S, request_timeout_s=REQUEST_TIMEOUT_S)
    await log.start()
    yield log
    await log.stop()


async def healed(log: KafkaLog, tp: TP, value: str) -> int:
    """Append until it is acknowledged; the offset."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            base = (await log.append({tp: records(value)}))[tp]
        except Unavailable:
            continue
        if base != UNKNOWN_OFFSET:
            return base
    raise AssertionError("the log did not heal")


async def until(reached: Callable[[], bool]) -> None:
    """Look every 10 ms, for 30 seconds at most."""
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


class Appender:
    """Appends without a pause, and remembers what it was told."""

    def __init__(self, log: KafkaLog, tp: TP, name: str) -> None:
        self.acknowledged: dict[int, str] = {}
        self.unknown: set[str] = set()
        self.refused: set[str] = set()
        self._log = log
        self._tp = tp
        self._name = name
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            value, number = f"{self._name} {number}", number + 1
            try:
                base = (await self._log.append({self._tp: records(value)}))[self._tp]
            except Unavailable:
                self.refused.add(value)
                continue
            if base == UNKNOWN_OFFSET:
                self.unknown.add(value)
            else:
                self.acknowledged[base] = value

    def stop(self) -> None:
        self._stopping.set()


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_what_was_acknowledged_is_there_once_and_at_its_offset(
    broker: KafkaBroker, log: KafkaLog, fault: str
) -> None:
    tp = TP(await make_topic(log), 0)
    appenders = [Appender(log, tp, f"a{i}") for i in range(8)]
    tasks = [asyncio.create_task(appender.run()) for appender in appenders]
    await until(lambda: sum(len(a.acknowledged) for a in appenders) > 200)
    (broker.kill if fault == "kill" else broker.pause)()
    await until(lambda: all(a.refused for a in appenders))
    await asyncio.to_thread(broker.start if fault == "kill" else broker.resume)
    before = {id(a): len(a.acknowledged) for a in appenders}
    await until(lambda: all(len(a.acknowledged) > before[id(a)] + 5 for a in appenders))
    for appender in appenders:
        appender.stop()
    await asyncio.gather(*tasks)

    found = [value.decode() for value in await read_all(log, tp)]
    assert len(found) == len(set(found)), "nothing is there twice"
    for appender in appenders:
        assert all(found[offset] == value for offset, value in appender.acknowledged.items())
        assert not appender.refused & set(found), "what was refused was not written"
    unknown = {value for a in appenders for value in a.unknown}
    assert unknown, "some were under way"
    assert {value for a in appenders for value in a.acknowledged.values()} | unknown >= set(found)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_calls_end_by_the_deadline_and_work_again(broker: KafkaBroker, log: KafkaLog, fault: str) -> None:
    tp = TP(await make_topic(log), 0)
    await log.append({tp: numbered(0, 3)})
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "offsets": lambda: log.offsets([tp]),
        "read": lambda: log.read(tp, 1),
        "delete_before": lambda: log.delete_before(tp, 1),
        "commit": lambda: log.commit("faults", {tp: 1}),
        "committed": lambda: log.committed("faults"),
        "create_topics": lambda: log.create_topics([]),
    }
    for call in calls.values():
        await call()
    (broker.kill if fault == "kill" else broker.pause)()
    began = time.monotonic()
    results = await asyncio.gather(*(call() for call in calls.values()), return_exceptions=True)
    assert time.monotonic() - began < DEADLINE_S + 0.5
    assert [type(result) for result in results] == [Unavailable] * len(calls)
    await asyncio.to_thread(broker.start if fault == "kill" else broker.resume)
    for call in calls.values():
        async with asyncio.timeout(20):
            while not await answers(call):
                pass


async def answers(call: Callable[[], Awaitable[Any]]) -> bool:
    try:
        await call()
    except Unavailable:
        return False
    return True


async def test_a_log_without_a_broker_does_not_start(broker: KafkaBroker) -> None:
    broker.pause()
    log = KafkaLog(broker.brokers, deadline_s=0.3)
    with pytest.raises(Unavailable, match=broker.brokers):
        await log.start()


async def test_a_log_stops_while_the_broker_is_frozen(broker: KafkaBroker) -> None:
    log = KafkaLog(broker.brokers, deadline_s=0.3)
    await log.start()
    tp = TP(await make_topic(log), 0)
    await log.append({tp: records("before")})
    broker.pause()
    async with asyncio.timeout(2):
        assert await log.append({tp: records("under way")}) == {tp: UNKNOWN_OFFSET}
        with pytest.raises(Unavailable):
            await log.append({tp: records("behind it")})
        await log.stop()


async def test_what_waits_is_bounded(broker: KafkaBroker, log: KafkaLog) -> None:
    tp = TP(await make_topic(log), 0)
    broker.pause()
    began = time.monotonic()
    tasks = [asyncio.create_task(log.append({tp: [Record(None, os.urandom(1 << 20))]})) for _ in range(40)]
    done, waiting = await asyncio.wait(tasks, timeout=DEADLINE_S / 2)
    assert time.monotonic() - began < DEADLINE_S
    assert [type(task.exception()) for task in done] == [Unavailable] * 9
    assert len(waiting) == 31
    await asyncio.wait(waiting)
    broker.resume()
    base = await healed(log, tp, "after the flood")
    assert (await log.offsets([tp]))[tp] == (0, base + 1)


@pytest.fixture
async def proxy(broker: KafkaBroker) -> AsyncIterator[KafkaProxy]:
    async with KafkaProxy(broker.proxy, broker.behind).running() as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: KafkaProxy) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(proxy.address, deadline_s=10)
    await log.start()
    yield log
    await log.stop()


async def test_a_lost_answer_is_acknowledged_with_the_offset_of_the_first_writing(
    proxy: KafkaProxy, proxied: KafkaLog
) -> None:
    tp = TP(await make_topic(proxied), 0)
    assert await proxied.append({tp: numbered(0, 3)}) == {tp: 0}
    proxy.losing = 2
    assert await proxied.append({tp: numbered(3, 5)}) == {tp: 3}
    assert proxy.lost == 2
    assert await proxied.append({tp: numbered(5, 6)}) == {tp: 5}
    assert await read_all(proxied, tp) == [r.value for r in numbered(0, 6)]


@pytest.mark.parametrize("made_up", [-1, 0, 2])
async def test_an_offset_that_is_not_above_our_last_counts_as_none(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch, made_up: int
) -> None:
    tp = TP(await make_topic(log), 0)
    assert await log.append({tp: numbered(0, 3)}) == {tp: 0}

    def duplicate(handler: SendProduceReqHandler, response: Any) -> None:
        for batch in handler._batches.values():
            batch.done(made_up)

    assert DuplicateSequenceNumber.errno == 46
    with monkeypatch.context() as patch:
        patch.setattr(SendProduceReqHandler, "handle_response", duplicate)
        assert await log.append({tp: numbered(3, 5)}) == {tp: UNKNOWN_OFFSET}
    assert await log.append({tp: numbered(5, 6)}) == {tp: 5}


async def test_what_waits_is_sent_although_its_partition_has_moved_to_an_idle_broker(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one broker plays two: the second record waits for the first one's answer when its leader changes."""
    stays, moves = TP(await make_topic(log), 0), TP(await make_topic(log), 0)
    leaders = {stays: 1, moves: 1}
    monkeypatch.setattr(log._producer, "_leader", leaders.__getitem__)
    first = asyncio.create_task(log.append({stays: records("first")}))
    await asyncio.sleep(0)
    second = asyncio.create_task(log.append({moves: records("second")}))
    await asyncio.sleep(0)
    assert stays in log._producer._sends, "under way"
    await asyncio.sleep(0)
    assert moves not in log._producer._sends, "waits"
    leaders[moves] = 2
    assert (await first, await second) == ({stays: 0}, {moves: 0})


async def test_a_record_that_its_topic_does_not_take_is_refused_before_it_is_sent(log: KafkaLog) -> None:
    tp = TP(await make_topic(log), 0)
    with pytest.raises(BadEvent, match=tp.topic):
        await log.append({tp: [Record(None, b"fits"), Record(None, bytes(4 << 20))]})
    assert await log.append({tp: records("later")}) == {tp: 0}


async def test_after_a_refusal_another_producer_goes_on(broker: KafkaBroker, log: KafkaLog) -> None:
    """Somebody lowers a limit while we run: the batch is lost, and with it the sequence of the producer."""
    tp, other = TP(await make_topic(log), 0), TP(await make_topic(log), 0)
    await log.append({tp: numbered(0, 3), other: numbered(0, 3)})
    await set_limit(broker, tp.topic, 2000)
    large = [Record(None, os.urandom(4000))]
    assert await log.append({tp: large, other: numbered(3, 4)}) == {tp: UNKNOWN_OFFSET, other: 3}
    assert await healed(log, tp, "small") == 3
    assert await log.append({other: numbered(4, 5)}) == {other: 4}


async def set_limit(broker: KafkaBroker, topic: str, limit: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.brokers)
    await admin.start()
    config = {"max.message.bytes": str(limit), "retention.ms": "-1"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
    await admin.close()
