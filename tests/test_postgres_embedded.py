"""The embedded server: new, again, taken over, and after every way to die."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from streamlens.errors import BadSetting, Damaged
from streamlens.postgres import embedded
from streamlens.postgres.account import Account, allow_search, cluster_account
from streamlens.postgres.embedded import EmbeddedPostgres

OWNER = """
import sys, time
from pathlib import Path
from streamlens.postgres.embedded import EmbeddedPostgres
EmbeddedPostgres(Path(sys.argv[1])).start()
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def module_dir() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="streamlens-test-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def directory(module_dir: Path) -> Path:
    """A cluster that was made and stopped."""
    server = EmbeddedPostgres(module_dir / "cluster")
    server.start()
    server.stop()
    return module_dir / "cluster"


@pytest.fixture
def cluster(directory: Path) -> Iterator[EmbeddedPostgres]:
    """A stopped server on `directory`."""
    server = EmbeddedPostgres(directory)
    yield server
    server.stop()


async def ask(dsn: str, question: str = "select 1") -> object:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def postmaster(server: EmbeddedPostgres) -> psutil.Process:
    assert server.pid is not None
    return psutil.Process(server.pid)


async def test_a_new_directory_serves_and_stops_within_two_seconds(module_dir: Path) -> None:
    server = EmbeddedPostgres(module_dir / "some" / "where" / "new")
    assert server.pid is None
    dsn = server.start()
    assert await ask(dsn, "show server_version_num") == "180004"
    process = postmaster(server)
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 2
    assert not process.is_running()
    assert server.pid is None
    server.stop()


async def test_what_was_written_is_there_after_a_stop_and_the_dsn_stays(cluster: EmbeddedPostgres) -> None:
    dsn = cluster.start()
    await ask(dsn, "create table if not exists kept (n int)")
    cluster.stop()
    assert cluster.start() == dsn
    assert await ask(dsn, "select count(*) from kept") == 0


async def test_start_leaves_a_running_server_alone(cluster: EmbeddedPostgres) -> None:
    dsn = cluster.start()
    pid = cluster.pid
    assert cluster.start() == dsn
    assert cluster.pid == pid


async def test_a_killed_server_starts_again_with_the_same_dsn(cluster: EmbeddedPostgres) -> None:
    dsn = cluster.start()
    await ask(dsn, "create table if not exists kept (n int)")
    postmaster(cluster).kill()
    assert cluster.start() == dsn
    assert await ask(dsn, "select count(*) from kept") == 0


def test_a_server_whose_owner_was_killed_is_taken_over_and_stopped(cluster: EmbeddedPostgres, directory: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, directory], stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        assert any(line == b"started\n" for line in owner.stdout)
        left = postmaster(cluster)
        owner.kill()
    assert left.is_running()
    dsn = cluster.start()
    assert cluster.pid == left.pid
    assert asyncio.run(ask(dsn)) == 1
    cluster.stop()
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


async def test_a_server_that_is_left_and_silent_is_replaced(
    cluster: EmbeddedPostgres, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "SILENT_S", 0.1)
    other = EmbeddedPostgres(directory)
    other.start()
    silent = postmaster(other)
    silent.suspend()
    assert await ask(cluster.start()) == 1
    assert cluster.pid != silent.pid


def test_a_silent_server_too_is_stopped_within_two_seconds_and_a_half(cluster: EmbeddedPostgres) -> None:
    cluster.start()
    silent = postmaster(cluster)
    silent.suspend()
    begin = time.monotonic()
    cluster.stop()
    assert time.monotonic() - begin < 2.5
    assert not silent.is_running()


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def zombie_pid() -> int:
    process = subprocess.Popen(["true"])
    ZOMBIES.append(process)
    deadline = time.monotonic() + 5
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    return process.pid


ZOMBIES: list[subprocess.Popen[bytes]] = []


@pytest.mark.parametrize(
    "pid", [dead_pid, zombie_pid, os.getpid, lambda: 1, lambda: ""], ids=["dead", "zombie", "ours", "init", "empty"]
)
async def test_a_stale_pid_file_does_not_block_the_start(
    cluster: EmbeddedPostgres, directory: Path, pid: Callable[[], object]
) -> None:
    file = directory / "postmaster.pid"
    file.write_text(f"{pid()}\n{directory}\n1795003200\n5432\n{directory}\n\n  8826964     65536\nready   \n")
    assert await ask(cluster.start()) == 1


async def test_the_remains_of_a_making_that_was_killed_are_swept_away(module_dir: Path) -> None:
    remains = module_dir / "interrupted.new" / "base"
    remains.mkdir(parents=True)
    server = EmbeddedPostgres(module_dir / "interrupted")
    assert await ask(server.start()) == 1
    server.stop()
    assert not remains.exists()


@pytest.mark.parametrize("name", ["d" * 120, "a, b c%41?x=y&ä#"], ids=["too long for a socket", "odd characters"])
async def test_the_socket_is_reached_whatever_the_directory_is_called(
    cluster: EmbeddedPostgres, directory: Path, name: str
) -> None:
    odd = directory.with_name(name)
    directory.rename(odd)
    try:
        server = EmbeddedPostgres(odd)
        dsn = server.start()
        assert await ask(dsn, "show data_directory") == str(odd)
        # Another object finds the socket of a server that it takes over.
        assert await ask(EmbeddedPostgres(odd).start(), "show data_directory") == str(odd)
        postmaster(server).kill()
        assert server.start() == dsn
        server.stop()
    finally:
        odd.rename(directory)


async def test_nobody_else_can_reach_the_files_or_the_server(cluster: EmbeddedPostgres, directory: Path) -> None:
    dsn = cluster.start()
    assert await ask(dsn, "show listen_addresses") == ""
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


async def test_an_acknowledged_commit_is_on_the_disk(cluster: EmbeddedPostgres) -> None:
    dsn = cluster.start()
    assert [await ask(dsn, f"show {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")] == [
        "on"
    ] * 3


def test_a_directory_of_something_else_is_refused_and_untouched(module_dir: Path) -> None:
    photos = module_dir / "photos"
    photos.mkdir()
    (photos / "cat.jpg").touch()
    with pytest.raises(BadSetting, match="is not empty and holds no database"):
        EmbeddedPostgres(photos).start()
    assert [file.name for file in photos.iterdir()] == ["cat.jpg"]


def test_a_cluster_of_another_version_is_refused(cluster: EmbeddedPostgres, directory: Path) -> None:
    (directory / "PG_VERSION").write_text("16\n")
    with pytest.raises(BadSetting, match="made by PostgreSQL 16, this StreamLens runs 18"):
        cluster.start()
    (directory / "PG_VERSION").write_text("18\n")


def test_a_damaged_cluster_says_what_postgres_says(cluster: EmbeddedPostgres, directory: Path) -> None:
    control = directory / "global" / "pg_control"
    control.rename(directory / "lost")
    with pytest.raises(Damaged, match="could not find the database system"):
        cluster.start()
    (directory / "lost").rename(control)


def test_without_the_extra_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(BadSetting, match=r"POSTGRES_DSN.*streamlens\[embedded\]"):
        EmbeddedPostgres(tmp_path / "data")


def test_ctrl_c_at_the_terminal_is_not_for_the_server(cluster: EmbeddedPostgres) -> None:
    cluster.start()
    assert cluster.pid
    assert os.getsid(cluster.pid) != os.getsid(0)
    assert os.getpgid(cluster.pid) != os.getpgrp()


def test_another_account_gets_the_search_bit_alone_and_only_where_it_is_missing(module_dir: Path) -> None:
    closed, open_ = module_dir / "closed", module_dir / "closed" / "open"
    open_.mkdir(parents=True)
    closed.chmod(0o700)
    open_.chmod(0o755)
    allow_search(Account(4_000_000, 4_000_000), open_ / "data")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (closed, open_)] == [0o701, 0o755]


def test_only_root_needs_another_account(monkeypatch: pytest.MonkeyPatch, directory: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cluster_account(tmp_path / "new") is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made = cluster_account(tmp_path / "new")
    assert made is not None
    assert made.uid != 0
    if directory.stat().st_uid:
        assert cluster_account(directory) == (directory.stat().st_uid, directory.stat().st_gid)
