"""A trace through the whole process, which is killed meanwhile: rows equal the oracle's and the ledger closes."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import asyncpg
import psutil
import pytest

import asked_truth
from process_server import STREAMLENS, Server, environ, until
from streamlens.postgres.embedded import EmbeddedPostgres
from streamlens.simulate import oracle

CALLS = 1_500
SPEED = 150
"""15 minutes of trace are sent in six seconds."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls of about 15 minutes, in the columns of the Azure trace."""
    random, at = Random(7), datetime(2023, 11, 16, 18, 15, 46, tzinfo=UTC)
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for _ in range(CALLS):
        at += timedelta(seconds=random.expovariate(CALLS / 900))
        lines.append(f"{at:%Y-%m-%d %H:%M:%S.%f}0,{random.randrange(1, 4_000)},{random.randrange(1, 600)}")
    path = tmp_path_factory.mktemp("trace") / "trace.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def server(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "exact") as server:
        yield server


@contextmanager
def sending(server: Server, trace: Path, expected: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`streamlens simulate` runs, and repeats what is not answered; waits for its end."""
    command = [STREAMLENS, "simulate", "--url", server.url, "--trace", str(trace), "--speed", str(SPEED)]
    with subprocess.Popen([*command, "--oracle", str(expected)], stdout=subprocess.PIPE, env=environ()) as process:
        try:
            yield process
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output.decode()
        finally:
            process.kill()


def differences(server: Server, expected: Path) -> list[str]:
    """What the rows in Postgres have other than the oracle."""
    return oracle.compare(oracle.read(expected)[0], server.rows())


_PARTED = """
    with sums as (
        select 'calls' as source, tenant_id, window_start, sum(requests) as requests, sum(errors) as errors,
            sum(latency_sum_us) as latency, sum(prompt_tokens) as prompt, sum(estimated_cost_usd) as cost,
            histogram_merge(latency_zero, latency_index, latency_count)::text as histogram
        from llm_metrics group by 1, 2, 3
        union all
        select 'how they ended', tenant_id, window_start,
            sum(requests), sum(errors), sum(latency_sum_us), sum(prompt_tokens), sum(estimated_cost_usd),
            histogram_merge(latency_zero, latency_index, latency_count)::text
        from llm_facets where facet in ('finish_reason', 'error_type') group by 1, 2, 3
    )
    select tenant_id, window_start, requests, count(*) from sums
    group by tenant_id, window_start, requests, errors, latency, prompt, cost, histogram having count(*) <> 2"""


def parted(server: Server) -> list[str]:
    """Minutes of tenants in which the calls by how they ended, by a finish reason or an error, are not the calls."""

    async def look() -> list[str]:
        connection = await asyncpg.connect(server.dsn)
        try:
            return [str(dict(row)) for row in await connection.fetch(_PARTED)]
        finally:
            await connection.close()

    return asyncio.run(look())


def counted(server: Server) -> int:
    """Events that the ledger holds, as far as the server can be asked."""
    try:
        return sum(row["received"] for row in server.get("/v1/ledger?limit=10000")[1].get("ledger", []))
    except OSError:
        return 0


def check(server: Server, expected: Path) -> None:
    """The books close, and the rows are the oracle's."""
    done = server.audit()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\ncloses\n")
    with suppress(TimeoutError):
        until(lambda: not differences(server, expected), "the oracle's rows", within_s=10)
    assert differences(server, expected) == []
    with suppress(TimeoutError):
        until(lambda: not parted(server), "the same calls by facet", within_s=10)
    assert parted(server) == []
    rows, ledger = oracle.read(expected)
    assert asked_truth.differences(server, rows) == []
    assert sum(row["calls"] for row in rows) == CALLS
    assert ledger["aggregated"] == 2 * CALLS
    books = server.get("/v1/ledger?limit=10000")[1]["ledger"]
    assert all(row["closes"] for row in books)
    assert sum(row["aggregated"] for row in books) == 2 * CALLS
    # A body whose answer was lost is sent again, and was durable or not.
    assert sum(row["duplicate"] for row in books) <= ledger["retried"]
    assert not sum(row["pending"] + row["orphaned"] + row["late"] + row["rejected"] for row in books)


def test_a_trace_gives_the_oracles_rows(server: Server, trace: Path, tmp_path: Path) -> None:
    expected = tmp_path / "expected.json"
    server.start()
    with sending(server, trace, expected):
        until(lambda: counted(server) > CALLS, "half of the events are counted", within_s=60)
        beside = server.audit()  # while they arrive
        assert beside.returncode == 0, beside.stdout
    check(server, expected)
    assert server.stop() == 0
    check_stopped(server, expected)


def check_stopped(server: Server, expected: Path) -> None:
    """`audit` starts the embedded PostgreSQL of a stopped installation and stops it again."""
    postgres = EmbeddedPostgres(server.data_dir / "postgres")
    assert postgres.pid is None
    assert server.audit().stdout.endswith("\ncloses\n")
    assert postgres.pid is None
    asyncio.run(_spoil(postgres))
    spoilt = server.audit()
    assert spoilt.returncode == 1
    assert "does not close: these rows do not add up: " in spoilt.stdout
    assert "1 events more than were read" in spoilt.stdout


async def _spoil(postgres: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(await asyncio.to_thread(postgres.start))
    await connection.execute(
        "update llm_ledger set received = received + 1 where ctid = (select ctid from llm_ledger limit 1)"
    )
    await connection.close()
    await asyncio.to_thread(postgres.stop)


def test_kill_9_three_times_changes_nothing(server: Server, trace: Path, tmp_path: Path) -> None:
    expected = tmp_path / "expected.json"
    server.start()
    with sending(server, trace, expected):
        for share in (0.2, 0.4, 0.7):
            until(lambda share=share: counted(server) >= share * 2 * CALLS, f"{share} of the events", within_s=60)
            server.kill()
            if share == 0.4:  # what the units keep is a copy: it is restored from the changelog
                shutil.rmtree(server.data_dir / "state")
            server.start()
    check(server, expected)


def test_postgres_may_be_killed_meanwhile(server: Server, trace: Path, tmp_path: Path) -> None:
    expected = tmp_path / "expected.json"
    server.start()
    postgres = EmbeddedPostgres(server.data_dir / "postgres")
    with sending(server, trace, expected):
        until(lambda: counted(server) > CALLS / 2, "a quarter of the events are counted", within_s=60)
        first = postgres.pid
        assert first is not None
        psutil.Process(first).kill()
        until(lambda: postgres.pid not in (None, first), "PostgreSQL is started again")
        until(lambda: server.get("/ready")[0] == 200, "it is ready again")
    check(server, expected)
