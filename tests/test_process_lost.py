"""Events that are deleted before they were counted: refused at the start, gone on without by an explicit command."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from faust_command import call
from process_server import NotReady, Server, environ, streamlens, until
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Record
from streamlens.partitioner import partition_of
from streamlens.topics import CALLS

PARTITIONS = 4
NAMES = [name for name in map(str, range(200)) if partition_of(name.encode(), PARTITIONS) == 1][:5]
"""Request ids of one partition."""
SOURCE = TP(CALLS, 1)


@pytest.fixture
def server(scratch: Path, empty_dsn: str) -> Iterator[Server]:
    with Server(scratch / "lost", dsn=empty_dsn) as server:
        yield server


def skip_lost(server: Server) -> list[str]:
    settings = environ(POSTGRES_DSN=server.dsn, STREAMLENS_LOG_FORMAT="json")
    done = streamlens("skip-lost", "--data-dir", str(server.data_dir), env=settings)
    assert done.returncode == 0, done.stderr
    skipped = [json.loads(line) for line in done.stderr.splitlines()]
    spans = [f"{each['topic']}[{each['partition']}] {each['first']} to {each['next']}" for each in skipped]
    return [*done.stdout.splitlines(), *spans]


async def append_and_delete(server: Server, names: list[str], below: int) -> None:
    """While it does not run: append calls, then delete what is below an offset."""
    log = LocalLog.open(server.data_dir / "log")
    await log.append({SOURCE: [Record(name.encode(), call(name).encode()) for name in names]})
    await log.delete_before(SOURCE, below)
    await log.stop()


def counted(server: Server) -> int:
    return sum(row["received"] for row in server.get("/v1/ledger?tenant_id=acme")[1]["ledger"])


def test_what_is_lost_is_skipped_by_command_and_told_by_the_audit(server: Server) -> None:
    server.start()
    assert server.post("/v1/llm/call", json.loads(call(NAMES[0])))[0] == 202
    until(lambda: counted(server) == 1, "the first call in the ledger")
    assert server.stop() == 0
    asyncio.run(append_and_delete(server, NAMES[1:], below=3))
    with pytest.raises(NotReady):
        server.start()
    refusal = json.loads(server.last_line)["reason"]
    assert "llm.calls partition 1 begins at 3, but was read to 1 only" in refusal
    assert "`streamlens skip-lost` goes on without it" in refusal

    assert skip_lost(server) == ["2 events are lost", "llm.calls[1] 1 to 3"]
    assert skip_lost(server) == ["0 events are lost"], "nothing is skipped where nothing is lost"
    server.start()
    until(lambda: counted(server) == 3, "what was left in the ledger")
    audit = server.audit()
    assert audit.returncode == 0, audit.stdout
    assert audit.stdout.splitlines()[-4:] == [
        "read 5, in the ledger 3",
        "lost 2: deleted before they were counted, and skipped by command",
        "late or rejected 0, dead letters 0",
        "closes",
    ]
    assert server.post("/v1/llm/call", json.loads(call(NAMES[0])))[0] == 202
    until(lambda: counted(server) == 4, "the state is whole: a duplicate is known")
    assert sum(row["calls"] for row in server.rows()) == 3
    assert server.stop() == 0
