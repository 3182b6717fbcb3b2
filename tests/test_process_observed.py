"""What is told besides calls, over HTTP through the whole process and a kill -9: sent twice, it counts once."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from process_server import Server, until


@pytest.fixture
def server(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "observed") as server:
        yield server


def bodies(now_ms: int) -> dict[str, list[dict[str, Any]]]:
    """By route; all of them with an identity of their own."""
    common = {"tenant_id": "acme", "timestamp": now_ms}
    return {
        "/v1/evaluations": [
            common | {"request_id": f"r{n}", "name": "truth", "score": n / 10, "label": "ok"} | tried("AB"[n % 2])
            for n in range(10)
        ],
        "/api/v1/ingest/app": [
            common | {"level": "error" if n % 2 else "info", "service": "api", "message": f"line {n}"}
            for n in range(10)
        ],
        "/api/v1/ingest/metrics": [common | {"name": "cpu", "value": n / 2, "tags": {"host": "a"}} for n in range(10)],
    }


def tried(variant: str) -> dict[str, Any]:
    return {"experiment": {"name": "tone", "variant": variant}}


def received(server: Server) -> int:
    return sum(row["received"] for row in server.get("/v1/ledger")[1].get("ledger", []))


def test_what_is_sent_again_after_a_kill_counts_once(server: Server) -> None:
    server.start()
    sent = bodies(time.time_ns() // 1_000_000)
    for path, events in sent.items():
        assert server.post(path, events)[0] == 202
    until(lambda: received(server) == 30, "all are counted")
    server.kill()
    server.start()
    for path, events in sent.items():
        assert server.post(path, events)[0] == 202
    until(lambda: received(server) == 60, "all are counted or recognised")
    (truth,) = server.get("/v1/evaluations?name=truth")[1]["evaluations"]
    assert (truth["evaluations"], truth["avg_score"], truth["labels"]) == (10, 0.45, {"ok": 10})
    tone = server.get("/v1/experiments/tone?metric=score:truth")[1]
    assert [(each["variant"], each["n"], each["mean"]) for each in tone["variants"]] == [("A", 5, 0.4), ("B", 5, 0.5)]
    tallies = server.get("/v1/tallies?kind=log,metric")[1]["tallies"]
    assert [(row["name"], row["detail"], row["count"], row["sum"]) for row in tallies] == [
        ("api", "ERROR", 5, None),
        ("api", "INFO", 5, None),
        ("cpu", "host=a", 10, 22.5),
    ]
    lines = server.get("/api/v1/analytics/logs/recent?level=ERROR&tenant_id=acme")[1]["logs"]
    assert {line["message"] for line in lines} == {f"line {n}" for n in range(1, 10, 2)}
    done = server.audit()
    assert done.stdout.endswith("\ncloses\n"), done.stdout
    (row,) = server.get("/v1/ledger?tenant_id=acme")[1]["ledger"]
    assert (row["aggregated"], row["duplicate"], row["closes"]) == (30, 30, True)
