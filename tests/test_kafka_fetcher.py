"""The order in which a worker gets its inputs: of one partition's topics the oldest records first, on both brokers."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka.structs import TopicPartition

from kafka_fixtures import consumer, log
from log_contract import make_topic
from streamlens.kafka import fetcher as fetcher_module
from streamlens.kafka.consumer import RunConsumer
from streamlens.kafka.fetcher import RunFetcher
from streamlens.kafka.log import KafkaLog
from streamlens.kafka.records import MAX_RECORDS
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Log, Record, Run, TopicSpec
from streamlens.topics import PARTIALS, REQUESTS, RESPONSES
from streamlens.transports.kafka import PartialsFirst
from streamlens.transports.local import Consumer

LARGE, SMALL, ROUND, ROUNDS = 2_000, 20, 250, 40

__all__ = ["consumer", "log"]


async def fill(log: Log, large: TP, small: TP) -> None:
    """As many records in both, at the same times; those of `large` are a hundred times as large."""
    for _ in range(ROUNDS):
        await log.append({large: [Record(None, os.urandom(LARGE)) for _ in range(ROUND)]})
        await log.append({small: [Record(None, os.urandom(SMALL)) for _ in range(ROUND)]})


def start_at(consumer: RunConsumer, *tps: TP) -> None:
    consumer.assign([TopicPartition(*tp) for tp in tps])
    for tp in tps:
        consumer.seek(TopicPartition(*tp), 0)


async def test_kafkas_inputs_come_side_by_side(log: KafkaLog, consumer: RunConsumer) -> None:
    large, small = TP(await make_topic(log, 1), 0), TP(await make_topic(log, 1), 0)
    await fill(log, large, small)
    start_at(consumer, large, small)
    read, apart = {large: 0, small: 0}, 0
    while sum(read.values()) < 2 * ROUND * ROUNDS:
        found = await consumer.getruns(timeout_ms=10_000)
        assert found, "nothing came in time"
        for tp, runs in found.items():
            for run in runs:
                assert run.first == read[TP(*tp)]
                read[TP(*tp)] = run.next
        apart = max(apart, abs(read[large] - read[small]))
    assert apart <= 2 * MAX_RECORDS


async def test_no_partition_starves_at_the_limit(log: KafkaLog, consumer: RunConsumer) -> None:
    topic = await make_topic(log, 4)
    tps = [TP(topic, partition) for partition in range(4)]
    await log.append({tp: [Record(None, b"%d" % number) for number in range(20 * MAX_RECORDS)] for tp in tps})
    start_at(consumer, *tps)
    served: set[int] = set()
    for _ in range(12):
        found = await consumer.getruns(timeout_ms=10_000, max_records=1)
        assert sum(map(len, found.values())) == 1
        served |= {tp.partition for tp in found}
    assert served == {0, 1, 2, 3}


async def test_an_input_at_its_end_holds_nothing_back(log: KafkaLog, consumer: RunConsumer) -> None:
    busy, silent = TP(await make_topic(log, 1), 0), TP(await make_topic(log, 1), 0)
    await log.append({busy: [Record(None, b"1")]})
    start_at(consumer, busy, silent)
    fetcher = consumer._fetcher
    while not await consumer.getruns(timeout_ms=10_000):
        pass
    await log.append({busy: [Record(None, b"2")]})
    assert (await consumer.getruns(timeout_ms=10_000))[TopicPartition(*busy)][0].values == [b"2"]
    assert not fetcher._held_since


async def test_an_input_that_brings_nothing_is_waited_for_only_so_long(
    log: KafkaLog, consumer: RunConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, stuck = TP(await make_topic(log, 1), 0), TP(await make_topic(log, 1), 0)
    await log.append({busy: [Record(None, b"1")]})
    monkeypatch.setattr(RunFetcher, "_is_behind", lambda self, tp: True)
    monkeypatch.setattr(fetcher_module, "_HELD_S", 1e9)
    start_at(consumer, busy, stuck)
    assert await consumer.getruns(timeout_ms=300) == {}
    assert consumer._fetcher._held_since
    assert await consumer.getruns(TopicPartition("another", 1), timeout_ms=0) == {}
    assert not consumer._fetcher._held_since, "of what was taken away"
    monkeypatch.setattr(fetcher_module, "_HELD_S", 0.0)
    assert (await consumer.getruns(timeout_ms=10_000))[TopicPartition(*busy)][0].values == [b"1"]


async def test_few_records_come_together(log: KafkaLog, consumer: RunConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher_module, "_IDLE_WAIT_MS", 2_000)
    tp = TP(await make_topic(log, 1), 0)
    start_at(consumer, tp)

    async def read() -> list[Run]:
        runs: list[Run] = []
        while not runs or runs[-1].next < 20:
            runs += (await consumer.getruns(timeout_ms=10_000)).get(TopicPartition(*tp), [])
        return runs

    reading = asyncio.create_task(read())
    for number in range(20):
        await log.append({tp: [Record(None, b"%d" % number)]})
    assert len(await reading) <= 4


def test_what_stage_one_has_sent_is_not_behind_what_it_has_still_to_count() -> None:
    runs = {TP(topic, partition): [Run(0, 1, [b""])] * 2 for partition in (0, 1) for topic in (REQUESTS, PARTIALS)}
    order = [tp for tp, _ in PartialsFirst().iterate(runs)]
    assert order == [TP(topic, partition) for topic in (PARTIALS, REQUESTS) for partition in (0, 1, 0, 1)]


async def test_the_local_logs_inputs_come_side_by_side(tmp_path: Path) -> None:
    now_ms = 1_790_000_000_000

    def clock_ms() -> int:
        nonlocal now_ms
        now_ms += 1
        return now_ms

    log = LocalLog.open(tmp_path / "log", sync=False, clock_ms=clock_ms)
    await log.create_topics([TopicSpec(topic, 1) for topic in (REQUESTS, RESPONSES)])
    large, small = TP(REQUESTS, 0), TP(RESPONSES, 0)
    await fill(log, large, small)
    consumer = object.__new__(Consumer)
    consumer.app = SimpleNamespace(runtime=SimpleNamespace(log=log))
    consumer._positions, consumer._ahead = {large: 0, small: 0}, {}
    apart = 0
    while found := consumer._read({large, small}):
        assert len(found) == 1
        apart = max(apart, abs(consumer._positions[large] - consumer._positions[small]))
    assert consumer._positions == {large: ROUND * ROUNDS, small: ROUND * ROUNDS}
    assert apart <= 2 * 2_000
    await log.stop()
