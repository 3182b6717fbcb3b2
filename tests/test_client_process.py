"""The client and `streamlens up`: killed and started again, forked, left without a word. Each event counts once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import streamlens.client
from process_server import Server, environ, until
from streamlens.client import Client

CLIENT = Path(streamlens.client.__file__).parent


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "client") as server:
        yield server.start()


def counted(server: Server, tenant: str, path: str = "/v1/metrics", name: str = "requests") -> int:
    """The sum of a column of the tenant's rows."""
    status, answer = server.get(f"{path}?tenant_id={tenant}")
    assert status == 200, answer
    return sum(row[name] for row in answer[path.rpartition("/")[2]])


def ledger(server: Server, tenant: str) -> dict[str, int]:
    rows = server.get(f"/v1/ledger?tenant_id={tenant}")[1]["ledger"]
    names = ("received", "aggregated", "pending", "duplicate", "rejected", "late", "orphaned")
    return {name: sum(row[name] for row in rows) for name in names}


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A program that has the client, copied under another name, and nothing else: no site-packages, no StreamLens."""
    shutil.copytree(CLIENT, cwd / "vendored", ignore=shutil.ignore_patterns("__pycache__"))
    (cwd / "program.py").write_text(script)
    return subprocess.run(
        [sys.executable, "-S", "program.py", *arguments],
        cwd=cwd,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_nothing_is_lost_or_counted_twice_when_the_server_is_killed(server: Server) -> None:
    before, stop, ids = time.monotonic(), threading.Event(), list[str]()
    options = {"batch_events": 50, "interval_s": 0.02, "timeout_s": 5, "max_events": 100_000}
    with Client(server.url, tenant_id="killed", **options) as client:

        def record() -> None:
            while not stop.wait(0.01):
                ids.append(client.call(route="whole", model="m", latency_ms=3, prompt_tokens=2))
                client.response(client.request(route="halves", model="m"), latency_ms=7, completion_tokens=1)

        threads = [threading.Thread(target=record) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                now = client.stats
                until(lambda now=now: client.stats.sent > now.sent + 300, "traffic flows")
                server.kill()
                until(lambda now=now: client.stats.retried > now.retried, "the client notices")
                server.start()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert client.flush(60), client.stats
        calls, stats = len(ids), client.stats
    assert (stats.sent, stats.rejected, stats.dropped, stats.waiting) == (3 * calls, 0, 0, 0)
    until(lambda: counted(server, "killed") >= 2 * calls, f"{2 * calls} calls after {time.monotonic() - before:.0f} s")
    assert counted(server, "killed") == 2 * calls
    assert counted(server, "killed", name="prompt_tokens") == 2 * calls
    until(lambda: ledger(server, "killed")["aggregated"] >= 3 * calls, "the ledger")
    entry = ledger(server, "killed")
    assert entry["aggregated"] == 3 * calls == entry["received"] - entry["duplicate"], entry
    until(lambda: server.faults() == [], "log and ledger agree")


LEAVES = """
import sys
from vendored import Client

client = Client(sys.argv[1], tenant_id="left", interval_s=60)
for _ in range(700):
    client.call(route="chat", model="m", latency_ms=1)
"""


def test_the_end_of_the_interpreter_sends_what_waits(server: Server, tmp_path: Path) -> None:
    done = run(LEAVES, server.url, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until(lambda: counted(server, "left") >= 700, "all calls")
    assert counted(server, "left") == 700


def test_the_end_of_the_interpreter_does_not_wait_for_ever_and_tells(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(LEAVES, "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 0
    assert 5 <= time.monotonic() - began < 15
    assert done.stderr.splitlines()[-1].startswith("http://127.0.0.1:9: 700 events dropped, 0 rejected, 0 waiting: ")


FORKS = """
import json, os, sys
from vendored import Client

client = Client(sys.argv[1], tenant_id="forked", interval_s=60)
for _ in range(300):
    client.call(route="before", model="m", latency_ms=1)
child = os.fork()
for _ in range(200):
    client.call(route="child" if child == 0 else "parent", model="m", latency_ms=1)
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert client.flush()
print(json.dumps(client.stats.sent))
"""


def test_a_fork_sends_its_own_events_and_the_parent_its(server: Server, tmp_path: Path) -> None:
    done = run(FORKS, server.url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == 500
    until(lambda: counted(server, "forked") >= 700, "all calls")
    rows = server.get("/v1/metrics?tenant_id=forked&group_by=route")[1]["metrics"]
    by_route: dict[str, int] = {}
    for row in rows:
        by_route[row["route"]] = by_route.get(row["route"], 0) + row["requests"]
    assert by_route == {"before": 300, "child": 200, "parent": 200}
    assert ledger(server, "forked")["duplicate"] == 0


def test_a_fork_while_other_threads_record_does_not_hang(server: Server) -> None:
    stop = threading.Event()
    with Client(server.url, tenant_id="threads", interval_s=0.01, max_events=2_000) as client:

        def record() -> None:
            while not stop.is_set():
                client.log("info", "hello")

        threads = [threading.Thread(target=record) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    signal.alarm(30)
                    try:
                        client.call(route="child", model="m", latency_ms=1)
                        os._exit(0 if client.close() else 1)
                    finally:
                        os._exit(2)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert client.flush(60)
    until(lambda: counted(server, "threads") >= 20, "the calls of all children")
    assert counted(server, "threads") == 20


def test_every_kind_is_taken_and_counted(server: Server) -> None:
    with Client(server.url, tenant_id="kinds", sender="shop/1.2") as client:
        with client.timed(route="chat", model="gpt-4o-mini", provider="openai") as call:
            call.first_token()
            call.set(prompt_tokens=10, completion_tokens=5, finish_reason="stop")
        with pytest.raises(TimeoutError), client.timed(route="chat", model="gpt-4o-mini"):
            raise TimeoutError("too slow")
        client.response(client.request(route="chat", model="gpt-4o-mini"), error_type="rate_limit")
        client.evaluation(call.request_id, "polite", score=0.5)
        for _ in range(2):
            client.log("warn", "slow", service="api", request_id=call.request_id, timestamp=time.time_ns() // 10**6)
        client.metric("gpu", 0.5, tags={"host": "a"})
        assert client.flush()
        assert (client.stats.sent, client.stats.rejected) == (8, 0), client.stats

    def row() -> dict[str, Any]:
        rows = server.get("/v1/metrics?tenant_id=kinds&group_by=none&step=1d")[1]["metrics"]
        return dict(rows[0]) if rows else {"requests": 0}

    until(lambda: row()["requests"] == 3, "three calls")
    assert (row()["errors"], row()["prompt_tokens"]) == (2, 10)
    until(lambda: counted(server, "kinds", "/v1/evaluations", "evaluations") == 1, "the evaluation")
    tallies = "/v1/tallies"
    until(lambda: server.get(f"{tallies}?tenant_id=kinds&kind=log,metric")[1]["count"] == 2, "log and metric")
    told = {row["kind"]: row for row in server.get(f"{tallies}?tenant_id=kinds&kind=log,metric")[1]["tallies"]}
    assert (told["log"]["count"], told["log"]["detail"], told["metric"]["sum"]) == (2, "WARNING", 0.5)
    (by_sender,) = server.get("/v1/metrics?tenant_id=kinds&group_by=sender&step=1d")[1]["metrics"]
    assert (by_sender["value"], by_sender["requests"]) == ("shop/1.2", 3)


def test_events_that_streamlens_rejects_are_told_with_field_and_reason(server: Server) -> None:
    with Client(server.url) as client:
        client.call(route="chat", model="m", latency_ms=1)
        client.call(route="chat", model="m", latency_ms=1, tenant_id="told")
        assert client.flush()
    assert (client.stats.sent, client.stats.rejected) == (1, 1)
    (reason,) = client.stats.reasons
    assert reason.startswith("tenant_id: ")
