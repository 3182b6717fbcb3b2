"""Changed rows on a cluster: who listens at one worker is told the rows of all, and can go on at another."""

import pytest

import streamlens.live
from kafka_fixtures import log
from live_stream import change
from log_contract import make_topic
from streamlens.kafka import KafkaLog
from streamlens.live import Live

__all__ = ["log"]


async def test_rows_of_two_workers_come_at_one_and_another_goes_on(
    kafka: str, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await make_topic(log, partitions=2)
    monkeypatch.setattr(streamlens.live, "METRICS", topic)
    here, there = (Live(log, log.log_id, 2, lambda: False) for _ in range(2))
    other = KafkaLog(kafka)
    await other.start()
    try:
        async with here.listen(None) as listener:
            for partition, worker in enumerate((log, other)):
                await change(worker, f"/{partition}", partition=partition, topic=topic)
                event = await listener.take(within_s=20)
                assert event is not None and event.name == "rows" and f'"/{partition}"'.encode() in event.data
        await change(other, "/2", partition=1, topic=topic)
        assert other.log_id == log.log_id
        async with there.listen("acme", event.position) as again:
            missed = [event async for event in again.missed()]
            assert [(each.name, b'"/2"' in each.data) for each in missed] == [("rows", True), ("", False)]
            assert missed[-1].position == there.position != event.position
    finally:
        await other.stop()
