"""Kafka: the contract of every log, on a real broker."""

from collections.abc import AsyncIterator

import pytest

from kafka_fixtures import log
from log_contract import LogContract, Reopen
from streamlens.kafka import KafkaLog
from streamlens.log import Log

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
