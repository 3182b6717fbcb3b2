"""The group's member runs in a thread of its own, and nobody else may touch what belongs to its loop."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from chaos.loops import OwnThreadLoop
from streamlens.app import create_app
from streamlens.settings import Settings


class NotingLoop(OwnThreadLoop):
    """Notes what other threads want of it."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[str] = []

    def misused(self, callback: Any) -> None:
        self.wanted.append(repr(callback))


async def test_a_rebalance_after_the_stop_began_touches_nothing_of_the_members_thread(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust's answer to it was to close the member from the main thread: now and then a segmentation fault."""
    group = f"member.{uuid.uuid4().hex}"
    app = create_app(Settings(kafka_brokers=kafka, data_dir=tmp_path, consumer_group=group))
    monkeypatch.setattr(asyncio, "new_event_loop", NotingLoop)
    consumer: Any = app.consumer
    await consumer.start()
    thread = consumer._thread
    try:
        app._on_rebalance_when_stopped()
        await thread.call_thread(thread._consumer.topics)  # it still answers
    finally:
        await consumer.stop()
    assert thread.thread_loop.wanted == []
    assert thread.thread_loop.is_closed()
    assert thread._consumer._closed
