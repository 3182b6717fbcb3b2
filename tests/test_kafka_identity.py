"""What a log on Kafka is known by: the cluster, and a mark that a wiped cluster does not have again."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streamlens.errors import Unavailable
from streamlens.kafka import KafkaLog
from streamlens.log import TopicSpec


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def group() -> str:
    return f"identity.{uuid.uuid4().hex}"


async def begun(stack: AsyncExitStack, kafka: str, group: str, *, deadline_s: float = 10) -> KafkaLog:
    log = KafkaLog(kafka, group=group, deadline_s=deadline_s)
    await log.start()
    stack.push_async_callback(log.stop)
    return log


async def test_workers_that_begin_at_once_agree(stack: AsyncExitStack, kafka: str, group: str) -> None:
    logs = [await begun(stack, kafka, group) for _ in range(4)]
    cluster = logs[0].log_id
    await asyncio.gather(*(log.create_topics([TopicSpec(f"{group}.events", 1)]) for log in logs))
    assert len({log.log_id for log in logs}) == 1
    assert logs[0].log_id.startswith(f"{cluster}/")
    late = await begun(stack, kafka, group)
    await late.identify()
    assert late.log_id == logs[0].log_id


async def test_groups_on_one_cluster_are_told_apart(stack: AsyncExitStack, kafka: str, group: str) -> None:
    one, other = await begun(stack, kafka, group), await begun(stack, kafka, f"{group}.other")
    await asyncio.gather(one.create_topics([]), other.create_topics([]))
    assert one.log_id != other.log_id


async def test_topics_that_were_made_anew_are_another_log(stack: AsyncExitStack, kafka: str, group: str) -> None:
    before = await begun(stack, kafka, group)
    await before.create_topics([])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    stack.push_async_callback(admin.close)
    await admin.delete_topics([f"{group}-identity"])
    after = await begun(stack, kafka, group)
    await after.create_topics([])
    assert after.log_id != before.log_id


async def test_where_no_worker_has_begun_there_is_nothing_to_know(
    stack: AsyncExitStack, kafka: str, group: str
) -> None:
    log = await begun(stack, kafka, group, deadline_s=0.5)
    with pytest.raises(Unavailable, match=f"{group}-identity"):
        await log.identify()
