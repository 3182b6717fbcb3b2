"""Kafka: the contract of every log, on a real broker."""

from collections.abc import AsyncIterator

import pytest

from log_contract import LogContract, Reopen
from streamlens.kafka import KafkaLog
from streamlens.log import Log


@pytest.fixture
async def log(kafka: str) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(kafka)
    await log.start()
    yield log
    await log.stop()


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
    for log in opened:
        await log.stop()


class TestContract(LogContract):
    """All of it."""
