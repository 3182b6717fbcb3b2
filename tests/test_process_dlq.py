"""Dead letters of a bug of ours, from the command line: listed, shown, replayed after the fix, killed meanwhile."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from process_logs import LOGS, on_log
from process_server import Server, streamlens, until
from test_kafka_producers import OnKafka

OUR_BUG = """
from streamlens import events
from streamlens.errors import BadEvent
decoder = events.decoder
def broken(kind):
    def decode(raw):
        if b"of the bug" in raw:
            raise BadEvent("route", "a bug of ours")
        return decoder(kind)(raw)
    return decode
events.decoder = broken
"""
KILLED_BEFORE_IT_REMEMBERS = """
import os
from streamlens.postgres import letters
async def killed(*_):
    os._exit(137)
letters.mark = killed
"""
GOOD, BAD = 20, 10


@pytest.fixture(params=LOGS)
def server(request: pytest.FixtureRequest, scratch: Path, postgres: str) -> Iterator[Server]:
    with on_log(request.param, "letters", scratch, postgres) as (server, _):
        yield server


def dlq(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["--url", server.url] if isinstance(server, OnKafka) else ["--data-dir", str(server.data_dir)]
    return streamlens("dlq", *arguments, *where)


def told(server: Server, *arguments: str) -> Any:
    done = dlq(server, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def calls() -> list[dict[str, Any]]:
    common = {"type": "call", "tenant_id": "acme", "model": "gpt-4o-mini", "latency_ms": 5}
    common |= {"timestamp": datetime.now(UTC).isoformat()}
    routes = ["chat"] * GOOD + ["of the bug"] * BAD
    return [common | {"request_id": f"r{i}", "route": route} for i, route in enumerate(routes)]


def counted(server: Server, column: str) -> int:
    return sum(row[column] for row in server.get("/v1/ledger")[1]["ledger"])


def test_a_bug_of_ours_costs_no_call(server: Server) -> None:
    server.start(OUR_BUG)
    status, answer = server.post("/v1/llm/events", calls())
    assert (status, answer["accepted"]) == (202, GOOD + BAD)
    until(lambda: counted(server, "received") == GOOD + BAD, "all events in the ledger")
    assert counted(server, "rejected") == BAD
    until(lambda: server.get("/v1/dlq")[1]["count"] == BAD, "all letters in the index")
    letter = told(server, "list", "--reason", "invalid", "--limit", "1")["letters"][0]
    name = f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
    assert (letter["tenant_id"], letter["field"], letter["detail"]) == ("acme", "route", "a bug of ours")
    assert name in dlq(server, "list", "--tenant", "acme").stdout
    assert name not in dlq(server, "list", "--tenant", "globex").stdout
    shown = dlq(server, "show", name).stdout
    assert json.loads(shown.splitlines()[-1])["route"] == "of the bug"
    dry = dlq(server, "replay", "--dry-run")
    assert (name in dry.stdout, dry.stdout.splitlines()[-1].split(",")[0]) == (True, f"sent {BAD}")
    assert server.stop() == 0

    server.start(KILLED_BEFORE_IT_REMEMBERS)
    broken_off = dlq(server, "replay")
    assert (broken_off.returncode, "It can be repeated" in broken_off.stderr) == (1, True)
    assert server.ended() == 137

    server.start()
    until(lambda: counted(server, "aggregated") == GOOD + BAD, "what was sent counts")
    first = told(server, "replay", "--limit", "4")
    assert first == {"sent": 4, "late_again": 0, "bad_again": 0, "truncated": 0, "same": 0, "gone": 0, "dry_run": False}
    assert dlq(server, "replay").stdout.split(",")[0] == f"sent {BAD - 4}"
    assert told(server, "replay")["sent"] == 0
    until(lambda: counted(server, "duplicate") == BAD, "what was sent twice is known")
    assert sum(row["calls"] for row in server.rows()) == GOOD + BAD
    assert server.get("/v1/dlq?limit=1")[1]["letters"][0]["replayed_at"] is not None
    if not isinstance(server, OnKafka):
        assert server.audit().stdout.endswith("\ncloses\n")
    assert server.stop() == 0


def test_without_a_process_the_commands_say_what_to_do(tmp_path: Path) -> None:
    done = streamlens("dlq", "list", "--data-dir", str(tmp_path))
    assert (done.returncode, "start `streamlens up`" in done.stderr) == (1, True)
    done = streamlens("dlq", "list", "--url", "http://127.0.0.1:1")
    assert (done.returncode, "no answer" in done.stderr) == (1, True)
    assert streamlens("dlq", "show", "llm.calls").returncode == 2


@pytest.mark.parametrize("command", ["list", "show", "replay"])
def test_each_command_has_an_example(command: str) -> None:
    assert f"streamlens dlq {command}" in streamlens("dlq", command, "--help").stdout
