"""One worker as a process with its own data directory: to be killed, frozen, robbed of its state, started again."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from process_server import environ, free_port

SESSION_S = 6
_PROGRAM = """
from streamlens.checkpoint.stage import Stage
Stage.__init__.__kwdefaults__["snapshot_min_bytes"] = 128 << 10
from streamlens.cli import main
main()
"""
"""`streamlens`, with snapshots every few seconds instead of every few minutes."""
END_S = 60.0
"""A worker that has not ended so long after SIGTERM hangs."""


class Worker:
    """`start` after each end. What it says is kept in `<directory>.log`, all of its lives in one file."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.name = directory.name
        self.ends: list[str] = []
        """How it ended by itself: the last line of each life that nobody took."""
        self._log = directory.with_name(f"{self.name}.log")
        self._copy = directory.with_name(f"{self.name}.copy")
        self._environ = environ(
            **settings, STREAMLENS_KAFKA_SESSION_S=str(SESSION_S), STREAMLENS_LOG_FORMAT="json", PYTHONFAULTHANDLER="1"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, without waiting until it is ready."""
        if self._process is not None:
            return
        command = [sys.executable, "-c", _PROGRAM, "up", "--data-dir", str(self.directory), "--port", str(free_port())]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environ
            )

    @property
    def is_wanted(self) -> bool:
        """Started, and not ended by us: it should run."""
        return self._process is not None

    def has_ended(self) -> bool:
        """Whether it ended by itself. Notes its last words."""
        if self._process is None or self._process.poll() is None:
            return False
        self.ends.append(f"{self.name} ended with {self._process.returncode}: {self._last_line()}")
        self._process = None
        return True

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> float:
        """SIGTERM, and wait: the seconds it took. Raises `AssertionError` when it hangs."""
        process, self._process = self._process, None
        if process is None:
            return 0.0
        began = time.monotonic()
        process.terminate()
        try:
            code = process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # says where each thread is
            process.wait()
            raise AssertionError(f"{self.name} hung for {END_S:g} s after SIGTERM: see {self._log}") from None
        if code not in (0, -signal.SIGTERM):  # which is all that it says before it has begun
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

    # -- its disk, while it does not run ---------------------------------------------------------------------------

    def wipe(self, *, whole: bool) -> None:
        """Lose the state; `whole`: the disk, so that it comes back as another member."""
        shutil.rmtree(self.directory if whole else self.directory / "state", ignore_errors=True)

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

    def said(self, events: Collection[str]) -> Counter[str]:
        """How often it logged each of these events, in all of its lives."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return Counter(event for line in lines for event in events if f'"event": "{event}"' in line)

    def _last_line(self) -> str:
        """The reason in its last line, as far as it is one of ours."""
        line = (self._log.read_text(errors="replace").splitlines() or [""])[-1]
        try:
            said = json.loads(line)
        except ValueError:
            return line
        return str(said.get("reason", said.get("event")))
