"""`streamlens up` as a process of its own, to be asked, stopped, killed and started again. For the tests."""

import asyncio
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import psutil

from streamlens.audit import Selection, audit, count_ledger, count_local_log
from streamlens.postgres.embedded import EmbeddedPostgres
from streamlens.postgres.exact import exact_rows
from streamlens.settings import Settings

READY_WITHIN_S = 90.0
"""Long, because tests share the machine with others; what a start may cost is `test_process_up.py`'s matter."""
STREAMLENS = str(Path(sys.executable).with_name("streamlens"))

_OURS = ("STREAMLENS_", "FAUST_", "KAFKA_BROKERS", "POSTGRES_DSN", "HTTP_PORT", "CONSUMER_GROUP")


class NotReady(Exception):
    """The process ended, or said nothing, before it was ready."""


class Server:
    """One data directory and port; `start` again after each end. Used as a context manager it leaves nothing behind."""

    def __init__(self, data_dir: Path, *, dsn: str = "", demo: bool = False, **settings: str) -> None:
        """`dsn` empty: the embedded PostgreSQL in the data directory; `settings` are more names of the environment."""
        self.demo = demo
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.dsn = dsn or f"postgresql://streamlens@/postgres?host={quote(str(data_dir / 'postgres'))}"
        self.process: subprocess.Popen[bytes]
        self._stderr = data_dir.with_name(data_dir.name + ".stderr")
        self._environ = environ(POSTGRES_DSN=dsn, STREAMLENS_LOG_FORMAT="json", **settings)
        self.key = ""
        """Sent with each request."""

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "process"):
            self.kill()
        EmbeddedPostgres(self.data_dir / "postgres").stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self._stderr.unlink(missing_ok=True)

    def start(self, patch: str = "", before: Callable[[], None] | None = None) -> "Server":
        """Start and wait for `ready`; raises `NotReady`. `patch` is code that runs first in the new process, `before`
        is called in it before anything."""
        self.launch(patch, before)
        self._await_ready()
        return self

    def launch(self, patch: str = "", before: Callable[[], None] | None = None) -> None:
        """Start without waiting."""
        program = [sys.executable, "-c", f"{patch}\nfrom streamlens.cli import main\nmain()"] if patch else [STREAMLENS]
        with self._stderr.open("wb") as errors:
            self.process = subprocess.Popen(
                [*program, "up", "--data-dir", str(self.data_dir), "--port", str(self.port)] + ["--demo"] * self.demo,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environ,
                preexec_fn=before,
            )

    def _await_ready(self) -> None:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], READY_WITHIN_S)[0]:
            raise NotReady(f"silent for {READY_WITHIN_S} s:\n{self.stderr}")
        if (line := self.process.stdout.readline()) != f"ready {self.url}\n".encode():
            raise NotReady(f"said {line!r}, ended with {self.ended()}:\n{self.stderr}")

    # -- its end -------------------------------------------------------------------------------------------------

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.ended()

    def kill(self) -> None:
        """Kill -9. An embedded PostgreSQL lives on."""
        self.process.kill()
        self.ended()

    def ended(self, within_s: float = 30.0) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(within_s)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    @property
    def stderr(self) -> str:
        """What the last process said."""
        return self._stderr.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        return (self.stderr.splitlines() or [""])[-1]

    # -- while it runs -------------------------------------------------------------------------------------------

    def family(self) -> list[psutil.Process]:
        """The process and all below it."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def get(self, path: str) -> tuple[int, Any]:
        """Status and decoded JSON."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        return _ask(urllib.request.Request(self.url + path, headers=self._key_header(), method=method))

    def post(self, path: str, body: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[int, Any]:
        return self.send(path, json.dumps(body).encode())

    def send(self, path: str, body: bytes, encoding: str = "identity") -> tuple[int, Any]:
        """Post bytes as they are; `encoding` says how they are compressed."""
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding, **self._key_header()}
        return _ask(urllib.request.Request(self.url + path, body, headers))

    def _key_header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `llm_metrics` with every integer, as the oracle has them."""
        found = asyncio.run(exact_rows(self.dsn))
        return [msgspec.structs.asdict(row) | msgspec.structs.asdict(row.cell) for row in found]

    def faults(self) -> list[str]:
        """Why the ledger does not close, as `streamlens audit` finds it."""
        log_dir, group = self.data_dir / "log", Settings().consumer_group

        async def look() -> list[str]:
            log_id = (await count_local_log(log_dir, group)).log_id
            whole = Selection()
            return (
                await audit(lambda: count_local_log(log_dir, group), lambda: count_ledger(self.dsn, log_id, whole))
            ).faults

        return asyncio.run(look())

    def audit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`streamlens audit` of this data directory."""
        return self.command("audit", *arguments)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command on this data directory."""
        return streamlens(*arguments, "--data-dir", str(self.data_dir), env=self._environ)


def streamlens(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [STREAMLENS, *arguments], env=env or environ(), capture_output=True, text=True, timeout=READY_WITHIN_S
    )


def environ(**settings: str) -> dict[str, str]:
    """This process' environment without any setting of StreamLens, and `settings`; empty ones are left out."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return inherited | {name: value for name, value in settings.items() if value}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def until(condition: Callable[[], bool], what: str, within_s: float = 30.0) -> float:
    """Poll until `condition` holds; the seconds that it took. Raises `TimeoutError` saying `what` was awaited."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"not within {within_s} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def at_last(look: Callable[[], Any], expected: Any, within_s: float = 30.0) -> Any:
    """Poll until `look` gives what is expected, or the time is over; what it gives then, to be compared."""
    with suppress(TimeoutError):
        until(lambda: bool(look() == expected), "as expected", within_s)
    return look()


def _ask(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
