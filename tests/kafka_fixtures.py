"""Fixtures on a real Apache Kafka: one broker for the whole run, started by the first test that asks for it."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from kafka_broker import KafkaBroker, temporary_broker
from streamlens.kafka import KafkaLog
from streamlens.kafka.consumer import RunConsumer


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    """A broker that a test may kill and freeze, if it leaves it running. Topics of other tests are in it."""
    broker = temporary_broker()
    yield broker
    broker.remove()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """Addresses of a broker: those in `TEST_KAFKA_BROKERS`, else of `kafka_broker`."""
    given = os.environ.get("TEST_KAFKA_BROKERS")
    if given:
        return given
    broker: KafkaBroker = request.getfixturevalue("kafka_broker")
    return broker.brokers


@pytest.fixture
async def log(kafka: str) -> AsyncIterator[KafkaLog]:
    """The log on that broker."""
    log = KafkaLog(kafka)
    await log.start()
    yield log
    await log.stop()


@pytest.fixture
async def consumer(kafka: str) -> AsyncIterator[RunConsumer]:
    """A consumer of runs without a group, to be told what it reads."""
    consumer = RunConsumer(
        bootstrap_servers=kafka, isolation_level="read_committed", auto_offset_reset="none", enable_auto_commit=False
    )
    await consumer.start()
    yield consumer
    await consumer.stop()
