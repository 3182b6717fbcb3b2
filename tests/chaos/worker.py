"""One worker as a process with its own data directory: to be killed, frozen, robbed of its state, started again."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from process_server import environ, free_port

SESSION_S = 6
_KILLED = -signal.SIGKILL
"""Nobody but this suite kills, by a fault or a failpoint: not an end of its own."""
_TESTS = str(Path(__file__).parents[1])
END_S = 60.0
"""A worker that has not ended so long after SIGTERM hangs."""
_HUNG = "stopped at once"


class Worker:
    """`start` after each end. What it says in its lives is in `<directory>.<life>.log`."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.name = directory.name
        self.url = ""
        self.ends: list[str] = []
        """How it ended by itself: the last line of each life that nobody took."""
        self.hung: list[str] = []
        """What it waited for when it ended by the deadline of its stop."""
        self.is_armed = False
        """It was told to break by itself, so its end is the matter of who told it."""
        self._lives = 0
        self._copy = directory.with_name(f"{self.name}.copy")
        self._environ = environ(
            STREAMLENS_KAFKA_SESSION_S=str(SESSION_S),
            STREAMLENS_LOG_FORMAT="json",
            PYTHONFAULTHANDLER="1",
            PYTHONPATH=_TESTS,
            **settings,
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _log(self) -> Path:
        return self.directory.with_name(f"{self.name}.{self._lives:04}.log")

    def start(self, armed: Mapping[str, str] | None = None) -> None:
        """Start it, unless it runs, without waiting until it is ready. `armed`: environment of this life only."""
        if self._process is not None:
            return
        self._lives += 1
        self.is_armed = bool(armed)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        program = [sys.executable, "-m", "chaos.program"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*program, "up", "--data-dir", str(self.directory), "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ | dict(armed or {}),
            )

    # -- how it is -------------------------------------------------------------------------------------------------

    @property
    def is_wanted(self) -> bool:
        """Started, and not ended by us: it should run."""
        return self._process is not None

    def is_ready(self) -> bool:
        """Whether it has said so in this life."""
        return b"ready http" in self._log.read_bytes()

    def fate(self) -> int | None:
        """The signal that killed it or, `SIGSTOP`, has frozen it; another exit code below 0; None while it runs."""
        if self._process is None:
            return -1
        if (code := self._process.poll()) is not None:
            return -code
        return signal.SIGSTOP if psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED else None

    def has_ended(self) -> bool:
        """Whether it ended by itself. Notes its last words."""
        if self._process is None or self._process.poll() is None:
            return False
        if self._process.returncode != _KILLED:
            self.ends.append(f"{self.name} ended with {self._process.returncode}: {self._last_line()}")
        self._process = None
        return True

    def said(self, events: Collection[str]) -> Counter[str]:
        """How often it logged each of these events, in all of its lives."""
        logs = self.directory.parent.glob(f"{self.name}.*.log")
        lines = (line for log in logs for line in log.read_text(errors="replace").splitlines())
        return Counter(event for line in lines for event in events if f'"event": "{event}"' in line)

    def _last_line(self, *, whole: bool = False) -> str:
        """The reason in its last line, as far as it is one of ours and not asked for as a `whole`."""
        line = (self._log.read_text(errors="replace").splitlines() or [""])[-1]
        if whole:
            return line
        try:
            said = json.loads(line)
        except ValueError:
            return line
        return str(said.get("reason", said.get("event")))

    # -- its end ---------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> float:
        """SIGTERM, and wait: the seconds it took. Raises `AssertionError` when it hangs."""
        self.terminate()
        took_s = self.wait()
        if _HUNG in (line := self._last_line(whole=True)):
            self.hung.append(f"{self._log.name}: {line}")
        return took_s

    def terminate(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> float:
        """Wait for its end after SIGTERM, as `stop` does."""
        process, self._process = self._process, None
        if process is None:
            return 0.0
        began = time.monotonic()
        try:
            code = process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # says where each thread is
            process.wait()
            raise AssertionError(f"{self.name} hung for {END_S:g} s after SIGTERM: see {self._log}") from None
        if code not in (0, _KILLED, -signal.SIGTERM):  # which is all that it says before it has begun
            self.ends.append(f"{self.name} ended with {code} after SIGTERM: {self._last_line()}")
        return time.monotonic() - began

    def pause(self) -> None:
        """SIGSTOP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    # -- its disk ---------------------------------------------------------------------------

    def wipe(self, *, whole: bool) -> None:
        """Lose the state; `whole`: the disk, so that it comes back as another member."""
        shutil.rmtree(self.directory if whole else self.directory / "state", ignore_errors=True)

    def largest_file_bytes(self) -> int:
        """Of all in its data directory."""
        return max((path.stat().st_size for path in self.directory.rglob("*") if path.is_file()), default=0)

    def keep_copy(self) -> None:
        """Copy the state, to be put back later."""
        shutil.rmtree(self._copy, ignore_errors=True)
        if (self.directory / "state").exists():
            shutil.copytree(self.directory / "state", self._copy)

    def put_back(self) -> bool:
        """Replace the state with the copy; False when there is none."""
        if not self._copy.exists():
            return False
        self.wipe(whole=False)
        shutil.copytree(self._copy, self.directory / "state")
        return True
