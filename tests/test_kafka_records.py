"""Runs of values from what fetches bring: codecs, transactions, holes, damage, and the consumer that gives them."""

import asyncio
import itertools
import struct
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from kafka_fixtures import consumer, log
from log_contract import make_topic, numbered, read_all, records
from streamlens.kafka import KafkaLog
from streamlens.kafka.consumer import RunConsumer
from streamlens.kafka.fetcher import RunFetcher
from streamlens.kafka.records import MAX_RECORDS, RunRecords, runs_of
from streamlens.log import TP, Run

CODECS = {None: 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
A = TopicPartition("a", 0)
_numbers = itertools.count()

__all__ = ["consumer", "log"]


def batch(first: int, offsets: Sequence[int], *, codec: int = 0, last: int | None = None, **fields: Any) -> bytes:
    """The bytes of a record batch with the values `b"v<offset>"`; `last` is the offset that compaction left behind."""
    builder = DefaultRecordBatchBuilder(
        2, codec, fields.get("transactional", 0), fields.get("producer", -1), 0, 0, 1 << 30
    )
    for offset in offsets:
        builder.append(offset - first, 1_700_000_000_000, b"k", b"v%d" % offset, [])
    if last is not None:
        builder.append(last - first, 1_700_000_000_000, None, b"compacted away", [])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, first)
    return bytes(data)


def values(*offsets: int) -> list[bytes]:
    return [b"v%d" % offset for offset in offsets]


def test_batches_that_follow_each_other_make_one_run() -> None:
    fetched = batch(10, range(10, 13)) + batch(13, [13]) + batch(14, range(14, 20))
    assert list(runs_of(A, fetched, 10)) == [Run(10, 20, values(*range(10, 20)))]


@pytest.mark.parametrize("codec", CODECS.values(), ids=str)
def test_a_run_begins_where_it_was_asked_to(codec: int) -> None:
    fetched = batch(10, range(10, 30), codec=codec)
    assert list(runs_of(A, fetched, 17)) == [Run(17, 30, values(*range(17, 30)))]


def test_a_run_has_a_bounded_number_of_records() -> None:
    fetched = batch(0, range(3 * MAX_RECORDS + 5)) + batch(3 * MAX_RECORDS + 5, [3 * MAX_RECORDS + 5])
    sizes = [(run.first, run.next, len(run.values)) for run in runs_of(A, fetched, 0)]
    full = [(i * MAX_RECORDS, (i + 1) * MAX_RECORDS, MAX_RECORDS) for i in range(3)]
    assert sizes == [*full, (3 * MAX_RECORDS, 3 * MAX_RECORDS + 6, 6)]


def test_a_run_has_a_bounded_number_of_bytes() -> None:
    fetched = batch(0, range(10)) + batch(10, range(10, 12))
    runs = list(runs_of(A, fetched, 0, max_bytes=8))
    assert [run.values for run in runs] == [values(*range(4)), values(*range(4, 8)), values(8, 9), values(10, 11)]
    assert [run.first for run in runs] + [runs[-1].next] == [0, 4, 8, 10, 12]


@pytest.mark.parametrize(
    ("offsets", "position", "expected"),
    [
        ([10, 11, 12], 10, [Run(10, 13, values(10, 11, 12))]),
        ([10, 11, 15], 10, [Run(10, 15, values(10, 11)), Run(15, 16, values(15))]),
        ([12, 13], 10, [Run(10, 12, []), Run(12, 14, values(12, 13))]),
        ([10, 12, 14], 11, [Run(11, 12, []), Run(12, 14, values(12)), Run(14, 15, values(14))]),
        ([10, 11, 15], 12, [Run(12, 15, []), Run(15, 16, values(15))]),
        ([10, 11, 15], 15, [Run(15, 16, values(15))]),
    ],
    ids=["no hole", "in the middle", "at the start", "two", "asked inside a hole", "asked behind it"],
)
def test_a_hole_ends_a_run(offsets: list[int], position: int, expected: list[Run]) -> None:
    assert list(runs_of(A, batch(10, offsets), position)) == expected


def test_a_hole_between_batches_ends_a_run() -> None:
    fetched = batch(0, [0, 1]) + batch(5, [5, 6])
    assert list(runs_of(A, fetched, 0)) == [Run(0, 5, values(0, 1)), Run(5, 7, values(5, 6))]


def test_a_record_without_a_value_is_an_empty_one() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, 0, 0, 1 << 20)
    for offset, value in enumerate((b"a", None, b"b")):
        builder.append(offset, 0, b"k", value, [])
    assert list(runs_of(A, bytes(builder.build()), 0)) == [Run(0, 3, [b"a", b"", b"b"])]


def test_a_flipped_byte_is_refused() -> None:
    good, bad = batch(0, range(MAX_RECORDS)), bytearray(batch(MAX_RECORDS, range(MAX_RECORDS, MAX_RECORDS + 3)))
    bad[-3] ^= 1
    runs = runs_of(A, good + bytes(bad), 0)
    with pytest.raises(CorruptRecordException):
        list(runs)


# -- on a real broker --------------------------------------------------------------------------------------------------


async def all_runs(consumer: RunConsumer, tp: TP, end: int, offset: int = 0) -> list[Run]:
    """All runs from `offset` to `end`, which must join."""
    consumer.assign([TopicPartition(*tp)])
    consumer.seek(TopicPartition(*tp), offset)
    runs: list[Run] = []
    while (runs[-1].next if runs else offset) < end:
        found = await consumer.getruns(timeout_ms=5_000)
        assert found, "nothing came in time"
        runs += found[TopicPartition(*tp)]
    assert [run.first for run in runs] == [offset, *(run.next for run in runs[:-1])]
    return runs


@pytest.mark.parametrize("codec", CODECS, ids=str)
async def test_what_any_producer_compresses_is_read(
    kafka: str, log: KafkaLog, consumer: RunConsumer, codec: str
) -> None:
    tp = TP(await make_topic(log), 0)
    sent = [b"%d compresses well " % i * 10 for i in range(3000)]
    async with AIOKafkaProducer(bootstrap_servers=kafka, compression_type=codec, linger_ms=20) as producer:
        for value in sent[:-1]:
            await producer.send(tp.topic, value, partition=tp.partition)
        await producer.send_and_wait(tp.topic, sent[-1], partition=tp.partition)
    assert await read_all(log, tp) == sent
    assert await read_all(log, tp, 1234) == sent[1234:]
    assert [value for run in await all_runs(consumer, tp, 3000) for value in run.values] == sent


async def transactions(kafka: str, log: KafkaLog) -> TP:
    """Two committed records (0, 1), marker 2, three aborted (3 to 5), marker 6, a plain one at 7."""
    tp = TP(await make_topic(log), 0)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"t{uuid.uuid4().hex}")
    async with producer:
        async with producer.transaction():
            for value in (b"a", b"b"):
                await producer.send_and_wait(tp.topic, value, partition=tp.partition)
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                for value in (b"x", b"y", b"z"):
                    await producer.send_and_wait(tp.topic, value, partition=tp.partition)
                raise ZeroDivisionError
    assert await log.append({tp: records("c")}) == {tp: 7}
    return tp


async def test_control_records_and_aborted_ones_are_offsets_without_values(
    kafka: str, log: KafkaLog, consumer: RunConsumer
) -> None:
    tp = await transactions(kafka, log)
    assert await log.offsets([tp]) == {tp: (0, 8)}
    first = await log.read(tp, 0)
    assert (first.first, first.next, first.values) == (0, 7, [b"a", b"b"])
    for offset in range(2, 7):
        run = await log.read(tp, offset)
        assert (run.first, run.next, run.values) == (offset, 7, [])
    assert (await log.read(tp, 7)).values == [b"c"]
    runs = await all_runs(consumer, tp, 8)
    assert [(run.first, run.next, run.values) for run in runs] == [(0, 7, [b"a", b"b"]), (7, 8, [b"c"])]


async def test_an_open_transaction_ends_what_can_be_read(kafka: str, log: KafkaLog) -> None:
    tp = TP(await make_topic(log), 0)
    await log.append({tp: records("before")})
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"t{uuid.uuid4().hex}")
    async with producer:
        async with producer.transaction():
            await producer.send_and_wait(tp.topic, b"inside", partition=tp.partition)
            assert await log.offsets([tp]) == {tp: (0, 1)}
            assert await log.read(tp, 1) == Run(1, 1, [])
        async with asyncio.timeout(10):  # a commit is answered before its marker is in the partition
            while (await log.offsets([tp]))[tp] != (0, 3):  # noqa: ASYNC110  # only the broker knows
                await asyncio.sleep(0.01)
        assert await read_all(log, tp) == [b"before", b"inside"]


async def test_the_brokers_clock_is_in_a_run(log: KafkaLog, consumer: RunConsumer) -> None:
    tp = TP(await make_topic(log), 0)
    await log.append({tp: records("a")})
    (run,) = await all_runs(consumer, tp, 1)
    assert run.appended_ms > 1_700_000_000_000
    assert (await log.read(tp, 0)).appended_ms == run.appended_ms


async def test_a_consumer_follows_seeks_pauses_and_its_group(kafka: str, log: KafkaLog) -> None:
    tp = TP(await make_topic(log, 1), 0)
    at = TopicPartition(*tp)
    await log.append({tp: numbered(0, 5000)})
    consumer = AIOKafkaConsumer(
        tp.topic,
        bootstrap_servers=kafka,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    consumer.__class__ = RunConsumer  # as the transport makes it: Faust names aiokafka's class itself
    async with consumer:
        found = await consumer.getruns(timeout_ms=10_000, max_records=1)
        assert [(run.first, run.next) for run in found[at]] == [(0, MAX_RECORDS)]
        assert await consumer.position(at) == MAX_RECORDS
        consumer.pause(at)
        assert await consumer.getruns(timeout_ms=50) == {}
        consumer.resume(at)
        consumer.seek(at, 4990)
        found = await consumer.getruns(timeout_ms=10_000)
        assert [(run.first, run.next, len(run.values)) for run in found[at]] == [(4990, 5000, 10)]
        await log.append({tp: numbered(5000, 5001)})
        found = await consumer.getruns(timeout_ms=10_000)
        assert found[at][0].values == [r.value for r in numbered(5000, 5001)]
        await consumer.commit({at: 5001})
        assert await consumer.committed(at) == 5001


# -- aiokafka's underscore names ---------------------------------------------------------------------------------------


def test_the_names_of_aiokafka_that_are_used(consumer: RunConsumer) -> None:
    """A release of aiokafka that changes one of these fails here first."""
    assert type(consumer._fetcher) is RunFetcher
    assert isinstance(consumer._fetcher._records, dict)
    assert isinstance(consumer._client, AIOKafkaClient)
    fetched = PartitionRecords(A, None, None, 7, None, None, True, 1)
    assert set(vars(fetched)) == {
        "_tp",
        "_records",
        "_aborted_transactions",
        "_aborted_producers",
        "_key_deserializer",
        "_value_deserializer",
        "_check_crcs",
        "_isolation_level",
        "next_fetch_offset",
        "_records_iterator",
    }
    for owner, name in (
        (Fetcher, "_proc_fetch_request"),
        (PartitionRecords, "_unpack_records"),
        (PartitionRecords, "_consume_aborted_up_to"),
        (PartitionRecords, "_contains_abort_marker"),
        (AIOKafkaClient, "coordinator_lookup"),
        (AIOKafkaClient, "force_metadata_update"),
    ):
        assert callable(getattr(owner, name))
    result = FetchResult(A, assignment=None, partition_records=fetched, backoff=0)
    assert result._partition_records is fetched
    assert RunRecords.of(fetched).next_fetch_offset == 7
