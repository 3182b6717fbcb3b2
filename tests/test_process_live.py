"""`/v1/live` of a whole process: from a call to the event, through the death of PostgreSQL, to the stop."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from live_stream import listening
from process_server import Server


@pytest.fixture
def server(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "live") as server:
        yield server.start()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as http:
        yield http


def call(number: int) -> dict[str, Any]:
    names = {"request_id": f"live-{number}", "tenant_id": "acme", "route": f"/{number}", "model": "gpt-4o"}
    return {**names, "timestamp": time.time_ns() // 1_000_000, "latency_ms": 120}


async def test_from_a_call_to_its_row_whatever_postgres_does_until_the_stop(
    server: Server, http: aiohttp.ClientSession, record_property: Any
) -> None:
    async with listening(http, tenant_id="acme") as stream:
        began = time.monotonic()
        assert (await http.post("/v1/llm/call", json=call(1))).status == 202
        assert await stream.rows(1) == ["/1"]
        record_property("told_s", round(time.monotonic() - began, 2))

        pid = int((server.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        assert (await http.post("/v1/llm/call", json=call(2))).status == 202
        told = [await stream.next(), await stream.next(), await stream.next()]
        assert {each.event for each in told if each} == {"rows", "stale", "fresh"}
        status, answer = await asyncio.to_thread(server.get, "/v1/metrics?route=/2")
        assert (status, answer["count"]) == (200, 1), "fresh means that all the rest is up to date"

        status, told = await asyncio.to_thread(server.get, "/api/v1/status")
        assert (status, told["status"], told["worker"], told["dead_letters"]["late"]) == (200, "healthy", "local", 0)
        for name in ("uptime_s", "freshness_p95_s", "checkpoint_age_s"):
            assert 0 <= told[name] < 120, name
        assert told["watermark_lag_s"] is None or told["watermark_lag_s"] >= 0, "until all inputs were seen to be idle"

        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        while (last := await stream.next()) is not None:
            assert last.event == "rows", "at most the last ones"
        assert await asyncio.to_thread(server.ended) == 0, server.stderr
        record_property("stop_s", round(time.monotonic() - began, 2))
        assert time.monotonic() - began < 5
