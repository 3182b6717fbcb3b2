"""`streamlens up` as people meet it: how it starts, how it stops, and what it refuses with which words."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from process_server import NotReady, Server, environ, streamlens, until

START_CPU_S = 4.0
"""Of the process itself, about twice what it needs."""
START_S = 15.0


@pytest.fixture(scope="module")
def running(scratch: Path) -> Iterator[Server]:
    """A server that the tests share; each leaves it running."""
    with Server(scratch / "up") as server:
        yield server.start()


@pytest.fixture
def fresh(scratch: Path) -> Iterator[Server]:
    """A server on an empty directory, not started."""
    with Server(scratch / "fresh") as server:
        yield server


def call(request_id: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "tenant_id": "acme",
        "route": "chat",
        "model": "gpt-4o",
        "timestamp": datetime.now(UTC).isoformat(),
        "latency_ms": 120,
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_an_empty_directory_is_ready_soon_and_a_signal_ends_all_of_it(
    fresh: Server, number: signal.Signals, record_property: Any
) -> None:
    began = time.monotonic()
    fresh.start()
    record_property("ready_s", round(time.monotonic() - began, 2))
    spent = psutil.Process(fresh.process.pid).cpu_times()
    record_property("ready_cpu_s", spent.user + spent.system)
    assert spent.user + spent.system < START_CPU_S
    assert time.monotonic() - began < START_S * max(1.0, os.getloadavg()[0] / 2)
    family = fresh.family()
    assert len(family) > 3, "PostgreSQL and its processes"
    with socket.create_connection(("127.0.0.1", fresh.port)) as connection:  # kept alive, and idle
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert fresh.stop(number) == 0, fresh.stderr
        record_property("stop_s", round(time.monotonic() - began, 2))
        assert time.monotonic() - began < 5
    _, alive = psutil.wait_procs(family, timeout=2)
    assert not alive
    assert not (fresh.data_dir / "run.json").exists()


def test_a_call_is_a_row_within_two_seconds(running: Server, record_property: Any) -> None:
    def rows() -> list[dict[str, Any]]:
        status, answer = running.get("/v1/metrics?tenant_id=acme")
        assert status == 200, answer
        found: list[dict[str, Any]] = answer["metrics"]
        return found

    assert running.post("/v1/llm/call", call("first"))[0] == 202
    until(lambda: bool(rows()), "the first row")
    seen = sum(row["requests"] for row in rows())
    assert running.post("/v1/llm/call", call("second"))[0] == 202
    took = until(lambda: sum(row["requests"] for row in rows()) > seen, "the second call in a row", within_s=5)
    record_property("row_s", round(took, 2))


def test_a_second_process_on_the_same_directory_is_refused(running: Server) -> None:
    second = Server(running.data_dir)
    with pytest.raises(NotReady):
        second.start()
    assert second.ended() == 1
    assert "is open in another process: stop that one" in second.last_line
    assert "exception" not in second.stderr, "a sentence is enough"
    assert running.get("/health") == (200, {"status": "healthy"})
    assert running.get("/ready")[0] == 200


@pytest.mark.parametrize("setting", ["HTTP_PORT", "STREAMLENS_OTLP_GRPC_PORT"])
def test_a_port_in_use_is_named(scratch: Path, setting: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with Server(scratch / "in-use", **({} if setting == "HTTP_PORT" else {setting: str(port)})) as server:
            server.port = port if setting == "HTTP_PORT" else server.port
            with pytest.raises(NotReady):
                server.start()
            assert server.ended() == 1
            assert server.last_line == f"Error: {setting}: can't serve on 127.0.0.1 port {port}: Address already in use"
            assert not server.data_dir.exists()


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["up"], {"STREAMLENS_PARTITION": "4"}, "unknown setting STREAMLENS_PARTITION; did you mean"),
        (["up"], {"STREAMLENS_PARTITIONS": "none"}, "STREAMLENS_PARTITIONS"),
        (["up", "--host", "0.0.0.0"], {}, "add --insecure if that is what you want"),
        (["up"], {"STREAMLENS_HTTP_HOST": "::"}, "add --insecure if that is what you want"),
        (["up", "--demo"], {"STREAMLENS_AUTH": "keys"}, "--demo sends without a key"),
        (["up"], {"STREAMLENS_AUTH": "key"}, "STREAMLENS_AUTH"),
        (["keys", "list"], {}, "there is no database in .streamlens/postgres: start StreamLens once, or set"),
        (["migrate"], {}, "POSTGRES_DSN is not set"),
        (["audit"], {}, "there is no log in .streamlens/log"),
        (["worker"], {}, "KAFKA_BROKERS is not set"),
        (["worker"], {"KAFKA_BROKERS": "localhost:9092"}, "POSTGRES_DSN is not set"),
        (["audit", "--from", "2026-07-01T00:00:00"], {}, "--from 2026-07-01T00:00:00: not an RFC 3339 time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_can_not_work_is_refused_in_one_sentence(
    arguments: list[str], settings: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = streamlens(*arguments, env=environ(**settings))
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_the_help_of_each_command_has_an_example() -> None:
    listed = streamlens("--help").stdout.partition("Commands:\n")[2]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "]
    assert {"up", "simulate", "audit", "migrate"} <= set(names)
    for name in names:
        done = streamlens(name, "--help")
        assert done.returncode == 0
        assert f"streamlens {name}" in " ".join(done.stdout.partition("Example")[2].split()), name
