"""Kafka: the contract of every log, on a real broker."""

import struct
from collections.abc import AsyncIterator

import pytest

from kafka_broker import KafkaBroker
from kafka_fixtures import log
from log_contract import LogContract, Reopen, make_topic
from streamlens.kafka import KafkaLog
from streamlens.kafka.producer import COMPRESSED_FROM_BYTES
from streamlens.log import TP, Log, Record

__all__ = ["log"]


@pytest.fixture
async def reopen(kafka: str) -> AsyncIterator[Reopen]:
    opened: list[KafkaLog] = []

    async def reopen(log: Log) -> KafkaLog:
        assert isinstance(log, KafkaLog)
        await log.stop()
        opened.append(KafkaLog(kafka))
        await opened[-1].start()
        return opened[-1]

    yield reopen
    for each in opened:
        await each.stop()


class TestContract(LogContract):
    """All of it."""


@pytest.mark.parametrize(("value_bytes", "codec"), [(100, 0), (COMPRESSED_FROM_BYTES, 4)], ids=["none", "zstd"])
async def test_only_large_batches_are_compressed(
    kafka_broker: KafkaBroker, log: KafkaLog, value_bytes: int, codec: int
) -> None:
    tp = TP(await make_topic(log), 0)
    await log.append({tp: [Record(None, bytes(value_bytes))]})
    path = kafka_broker._directory / "data" / f"{tp.topic}-0" / f"{0:020}.log"
    *_, attributes = struct.unpack_from(">qiibIh", path.read_bytes())
    assert attributes & 7 == codec
