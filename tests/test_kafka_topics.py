"""Topics on Kafka: how they are made, and which existing ones are refused."""

import uuid
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from kafka_fixtures import log
from log_contract import records
from streamlens.errors import BadEvent, BadSetting
from streamlens.kafka import KafkaLog
from streamlens.log import TP, Record, TopicSpec

__all__ = ["log"]


@pytest.fixture
async def admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    yield admin
    await admin.close()


@pytest.fixture
def name() -> str:
    return f"topics.{uuid.uuid4().hex}"


async def test_what_a_new_topic_is_made_with(log: KafkaLog, admin: AIOKafkaAdminClient, name: str) -> None:
    await log.create_topics([TopicSpec(name, 3, retention_ms=3_600_000, retention_bytes=1 << 30)])
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    config = {entry[0]: entry[1] for entry in response.resources[0][4]}
    expected = {
        "cleanup.policy": "delete",
        "retention.ms": "3600000",
        "retention.bytes": str(1 << 30),
        "max.message.bytes": str(4 << 20),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": "1",
        "unclean.leader.election.enable": "false",
    }
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("configs", "retention_ms", "reason"),
    [
        ({"cleanup.policy": "compact", "retention.ms": "-1"}, -1, "cleanup.policy=compact"),
        ({"cleanup.policy": "compact,delete", "retention.ms": "-1"}, -1, "cleanup.policy=compact,delete"),
        ({"retention.ms": "86400000"}, -1, "retention.ms=86400000"),
        ({"retention.ms": "-1", "retention.bytes": "1000000"}, -1, "retention.bytes=1000000"),
        ({"max.message.bytes": "100000"}, 3_600_000, "max.message.bytes=100000"),
    ],
    ids=["compacted", "compacted too", "forgets by age", "forgets by size", "takes too little"],
)
async def test_an_existing_topic_that_would_lose_or_refuse_records(
    log: KafkaLog, admin: AIOKafkaAdminClient, name: str, configs: dict[str, str], retention_ms: int, reason: str
) -> None:
    await admin.create_topics([NewTopic(name, 2, 1, topic_configs=configs)])
    with pytest.raises(BadSetting, match=f"{name} has {reason}"):
        await log.create_topics([TopicSpec(name, 2, retention_ms=retention_ms)])


async def test_an_existing_topic_of_the_operator_is_taken_with_its_own_limit(
    log: KafkaLog, admin: AIOKafkaAdminClient, name: str
) -> None:
    configs = {"max.message.bytes": "700000", "retention.ms": "60000"}
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs=configs)])
    await log.create_topics([TopicSpec(name, 1, retention_ms=3_600_000)])
    tp = TP(name, 0)
    with pytest.raises(BadEvent, match="takes up to 700000"):
        await log.append({tp: [Record(None, bytes(700_000))]})
    # Together they are larger than the topic takes, so they go in two batches.
    assert await log.append({tp: [Record(None, bytes([i]) * 400_000) for i in range(3)]}) == {tp: 0}
    assert await log.append({tp: records("later")}) == {tp: 3}


async def test_a_name_that_kafka_does_not_take(log: KafkaLog) -> None:
    with pytest.raises(BadSetting, match="no spaces"):
        await log.create_topics([TopicSpec("no spaces", 1)])


async def test_a_topic_that_is_not_there_holds_nobody_up(kafka: str, log: KafkaLog, name: str) -> None:
    await log.create_topics([TopicSpec(name, 1)])
    patient = KafkaLog(kafka, deadline_s=0.5)
    await patient.start()
    assert await patient.append({TP(name, 0): records("a"), TP("missing", 0): records("b")}) == {
        TP(name, 0): 0,
        TP("missing", 0): -1,
    }
    assert await patient.append({TP(name, 0): records("c")}) == {TP(name, 0): 1}
    await patient.stop()


async def test_two_logs_on_one_cluster_know_that_it_is_one(kafka: str, log: KafkaLog) -> None:
    other = KafkaLog(kafka)
    await other.start()
    assert other.log_id == log.log_id != ""
    await other.stop()
