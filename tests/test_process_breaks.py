"""A process that breaks inside ends at once with a clear last line, and the next start gives exact rows."""

import json
import shutil
import time
import urllib.error
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from process_server import NotReady, Server, until
from streamlens.pricing import Prices
from streamlens.simulate.call import Line, timeline
from streamlens.simulate.oracle import Oracle, compare
from streamlens.simulate.synthetic import Traffic, calls

BODIES = 12

BROKEN_AGENT = """
from itertools import count
from streamlens.cell import Cell
add, numbers = Cell.add, count()
def broken(*arguments):
    if next(numbers) == 70:
        raise RuntimeError("broken on purpose")
    add(*arguments)
Cell.add = broken
"""
BROKEN_STORE = """
from streamlens.checkpoint.store import RocksStore
write = RocksStore.write
def broken(store, changes):
    if any(key.startswith(b"w") for key in changes):
        raise Exception("IO error: No space left on device")
    write(store, changes)
RocksStore.write = broken
"""
KILLED_BEFORE_THE_COMMIT = """
import os
from streamlens.locallog.local import LocalLog
async def killed(log, group, offsets):
    if any(offsets.values()):
        os._exit(137)
LocalLog.commit = killed
"""
FORGETFUL_LOG = """
from collections import Counter
from streamlens.errors import Unavailable
from streamlens.locallog.local import LocalLog
append, counts = LocalLog.append, Counter()
async def forgetful(log, batches):
    offsets = await append(log, batches)
    topic = next(iter(batches)).topic
    counts[topic] += 1
    if counts[topic] % 2:
        raise Unavailable("written, but who knows")
    return offsets
LocalLog.append = forgetful
"""


@pytest.fixture
def server(scratch: Path, empty_dsn: str) -> Iterator[Server]:
    with Server(scratch / "breaks", dsn=empty_dsn) as server:
        yield server


class Sent:
    """Some hundred events in bodies, each sent until it is answered, and the rows that follow from them."""

    def __init__(self) -> None:
        now_us = time.time_ns() // 1000 - 90_000_000
        traffic = Traffic(rate=20.0, duration_s=15.0, tenants=3, users=10, anomalies=0.0, seed=3)
        lines: list[Line] = list(timeline(calls(traffic, now_us)))
        size = -(-len(lines) // BODIES)
        self._left = [[line.raw for line in lines[i : i + size]] for i in range(0, len(lines), size)]
        self._oracle = Oracle(Prices())
        self.events = len(lines)

    def send(self, server: Server) -> None:
        """Send what was not acknowledged yet, until all is or the process is gone."""
        while self._left and server.process.poll() is None:
            body = self._left[0]
            with suppress(urllib.error.URLError, HTTPException, OSError):
                status, _ = server.post("/v1/llm/events", [json.loads(line) for line in body])
                if status == 202:
                    self._oracle.acknowledged(body)
                    self._left.pop(0)

    def check(self, server: Server) -> None:
        """All events are acknowledged, and in the rows of the running server exactly once."""
        self.send(server)
        assert not self._left, server.stderr
        expected = self._oracle.rows()
        assert sum(row["calls"] for row in expected) * 2 == self.events
        with suppress(TimeoutError):
            until(lambda: not compare(expected, server.rows()), "the oracle's rows", within_s=10)
        assert compare(expected, server.rows()) == []
        assert server.faults() == []


@pytest.mark.parametrize(
    ("patch", "code", "reason"),
    [
        (BROKEN_AGENT, 1, "RuntimeError: broken on purpose"),
        (BROKEN_STORE, 1, "No space left on device"),
        (KILLED_BEFORE_THE_COMMIT, 137, ""),
    ],
    ids=["an agent raises", "the store of a unit can not be written", "killed between the rows and the commit"],
)
def test_what_breaks_ends_the_process_and_the_next_one_is_exact(
    server: Server, patch: str, code: int, reason: str
) -> None:
    sent = Sent()
    server.start(patch)
    sent.send(server)
    assert server.ended(within_s=10) == code, server.stderr
    if reason:
        last = json.loads(server.last_line)
        assert (last["event"], last["level"]) == ("stopped", "critical")
        assert reason in last["reason"]
    server.start()
    assert server.faults() == [], "what is in the log is counted, before anything else comes"
    sent.check(server)


def test_a_full_disk_ends_the_process_and_the_next_one_is_exact(server: Server) -> None:
    sent = Sent()
    server.start()
    largest = max(path.stat().st_size for path in server.data_dir.rglob("*") if path.is_file())
    psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_FSIZE, (largest + 50_000, largest + 50_000))
    sent.send(server)
    assert server.ended(within_s=10) == 1, server.stderr
    assert "can't be used: " in json.loads(server.last_line)["reason"]
    sent.check(server.start())


def test_an_append_of_unknown_fate_ends_in_a_new_takeover(server: Server) -> None:
    sent = Sent()
    server.start(FORGETFUL_LOG)
    sent.check(server)
    assert "partition fenced, taking it over again" in server.stderr
    assert server.stop() == 0


def test_a_damaged_log_is_refused_by_name(server: Server) -> None:
    sent = Sent()
    sent.send(server.start())
    server.kill()
    file = max((server.data_dir / "log").glob("*.log"), key=lambda path: path.stat().st_size)
    flip(file)
    with pytest.raises(NotReady):
        server.start()
    assert server.ended() == 1
    assert f"the log in {server.data_dir / 'log'} is damaged" in server.last_line
    flip(file)
    sent.check(server.start())


def test_a_damaged_store_names_what_to_delete(server: Server) -> None:
    sent = Sent()
    sent.send(server.start())
    assert server.stop() == 0
    assert server.faults() == [], "the last words brought all rows to Postgres"
    directory = server.data_dir / "state" / "pending" / "2"
    flip(max(directory.glob("*.[ls][os][gt]"), key=lambda path: path.stat().st_size), 20)  # the block of the first keys
    with pytest.raises(NotReady):
        server.start()
    assert server.ended() == 1
    assert f"{directory}: " in server.last_line
    assert "delete this directory" in server.last_line
    shutil.rmtree(directory)
    sent.check(server.start())


def flip(file: Path, at: int = 0) -> None:
    """Change the byte `at`, or else one in the middle; a second time it is whole again."""
    content = bytearray(file.read_bytes())
    content[at or len(content) // 2] ^= 0xFF
    file.write_bytes(content)


HANGS = """
import asyncio
from streamlens import runtime
async def hang(self):
    await asyncio.Event().wait()
runtime.Runtime.give_up = hang
runtime._STOP_S = 1.0
"""


def test_a_stop_that_hangs_ends_by_its_deadline_and_loses_nothing(server: Server) -> None:
    sent = Sent()
    server.start(HANGS)
    sent.send(server)
    assert server.stop() == 0
    last = json.loads(server.last_line)
    assert last["event"].startswith("stopped at once")
    assert any("hang" in calls for calls in last["waiting"]), "it tells what hung"
    sent.check(server.start())
