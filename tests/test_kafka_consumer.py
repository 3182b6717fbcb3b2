"""The consumer of runs ends in order, also while the broker is away."""

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka.structs import TopicPartition

from kafka_broker import KafkaBroker
from log_contract import make_topic
from streamlens.kafka import KafkaLog
from streamlens.kafka.consumer import RunConsumer

LONG_MS = 30_000


@pytest.fixture
def broker(kafka_broker: KafkaBroker) -> Iterator[KafkaBroker]:
    """The broker of this run, to be left as it was found."""
    yield kafka_broker
    if not kafka_broker.is_running():
        kafka_broker.start()


async def test_it_stops_while_a_fetch_that_failed_waits_to_be_repeated(
    broker: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    log = KafkaLog(broker.brokers)
    await log.start()
    tp = TopicPartition(await make_topic(log), 0)
    await log.stop()
    consumer = RunConsumer(bootstrap_servers=broker.brokers, retry_backoff_ms=LONG_MS, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([tp])
    await consumer.position(tp)
    broker.kill()
    for _ in range(2_000):
        if "Failed fetch messages" in caplog.text:
            break
        await asyncio.sleep(0.01)
    assert "Failed fetch messages" in caplog.text
    async with asyncio.timeout(5):
        await consumer.stop()
    assert not consumer._client._conns, "stopped to its end: the connections come last"
