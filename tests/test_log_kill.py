"""The local log in a process of its own, killed or on a full disk: what was acknowledged is there afterwards."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from log_contract import read_all
from streamlens.errors import Unavailable
from streamlens.locallog import LocalLog
from streamlens.log import TP

APPENDER = """
import asyncio, random, resource, signal, sys
from pathlib import Path
from streamlens.locallog import LocalLog
from streamlens.log import TP, Record, TopicSpec

async def append(log, name):
    for turn in range(1_000_000):
        tp = TP("a", random.randrange(2))
        values = [f"{name}.{turn}.{i}".encode() + b"." * random.randrange(400) for i in range(random.randrange(1, 40))]
        base = await log.append({tp: [Record(None, value) for value in values]})
        print("ack", tp.partition, base[tp], len(values), name, turn, flush=True)

async def main(path, limit):
    log = LocalLog.open(Path(path), on_failure=lambda error: print("failed", type(error).__name__, error, flush=True))
    await log.create_topics([TopicSpec("a", 2)])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    results = await asyncio.gather(*(append(log, name) for name in range(8)), return_exceptions=True)
    print("ended", len({id(r) for r in results}), flush=True)
    await log.stop()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def start(path: Path, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", APPENDER, str(path), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def check(path: Path, lines: list[str]) -> int:
    """Every acknowledged append is where it was said to be, as a whole; the number of them."""
    log = LocalLog.open(path)
    values = {p: [v.rstrip(b".").decode() for v in await read_all(log, TP("a", p))] for p in (0, 1)}
    await log.stop()
    acknowledged = [line.split()[1:] for line in lines if re.fullmatch(r"ack( \d+){5}\n", line)]
    for partition, base, count, name, turn in acknowledged:
        part = values[int(partition)][int(base) : int(base) + int(count)]
        assert part == [f"{name}.{turn}.{i}" for i in range(int(count))]
    return len(acknowledged)


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    lines: list[str] = []
    for acknowledgements in (400, 1, 57):
        process = start(tmp_path / "log")
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            lines.append(line)
            seen += line.startswith("ack")
            if seen == acknowledgements:
                process.kill()  # what follows was printed before it died
        process.wait()
        process.stdout.close()
        assert process.returncode == -9
        assert await check(tmp_path / "log", lines) >= acknowledgements


async def test_a_second_process_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    with start(tmp_path / "log") as process:
        try:
            assert process.stdout is not None
            while not process.stdout.readline().startswith("ack"):
                pass
            with pytest.raises(Unavailable, match=f"{tmp_path / 'log'} is open in another process: stop that one"):
                LocalLog.open(tmp_path / "log")
            for _ in range(5):
                reader = LocalLog.open(tmp_path / "log", read_only=True)
                assert sum([len(await read_all(reader, TP("a", p))) for p in (0, 1)]) > 0
                await reader.stop()
        finally:
            process.kill()


async def test_a_full_disk_ends_the_log_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    process = start(tmp_path / "log", limit=1 << 20)  # no file may grow beyond it
    out, _ = process.communicate(timeout=60)
    lines = out.splitlines(keepends=True)
    failed = [line for line in lines if line.startswith("failed")]
    assert len(failed) == 1
    assert failed[0].startswith(f"failed Unavailable the log in {tmp_path / 'log'} can't be used")
    assert "ended 1\n" in lines, "all got the same error"
    assert process.returncode == 0
    assert await check(tmp_path / "log", lines) > 50
