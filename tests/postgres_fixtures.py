"""Fixtures on a real PostgreSQL: one embedded server for the whole run, an empty migrated database for each test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from streamlens.postgres.embedded import EmbeddedPostgres
from streamlens.postgres.migrate import migrate
from streamlens.postgres.store import PostgresStore
from streamlens.postgres.tables import TABLES

_numbers = count(1)
_migrated: set[str] = set()


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory that another account can reach: pytest's own is closed again by each run that starts."""
    directory = Path(tempfile.mkdtemp(prefix="streamlens-test-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(scratch: Path) -> Iterator[str]:
    """The DSN of the shared server's first database, which stays empty."""
    server = EmbeddedPostgres(scratch / "shared")
    yield server.start()
    server.stop()


@pytest.fixture
def lone_postgres(scratch: Path) -> Iterator[EmbeddedPostgres]:
    """A server for one test at a time, not yet started, to be killed and frozen. Its rows stay."""
    server = EmbeddedPostgres(scratch / "lone")
    yield server
    server.stop()


@pytest.fixture
async def empty_dsn(postgres: str) -> str:
    """A database without tables."""
    return await _database(postgres, f"test{next(_numbers)}")


@pytest.fixture
async def dsn(postgres: str) -> str:
    """The migrated database, without rows."""
    migrated = postgres.replace("/postgres?", "/migrated?")
    if migrated not in _migrated:
        await migrate(await _database(postgres, "migrated"))
        _migrated.add(migrated)
    await empty(migrated)
    return migrated


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[PostgresStore]:
    """A store on `dsn`."""
    opened = await PostgresStore.open(dsn)
    yield opened
    await opened.close()


async def empty(dsn: str) -> None:
    """Delete all rows."""
    connection = await asyncpg.connect(dsn)
    others = ("dead_letters", "dead_letter_replays", "streamlens_meta", "streamlens_keys", "streamlens_projects")
    hours = ("llm_metrics_hourly", "llm_facets_hourly")
    for table in (*(table.name for table in TABLES.values()), *hours, *others):
        await connection.execute(f"delete from {table}")
    await connection.execute("update llm_history set hours_until = 'epoch', minutes_from = 'epoch'")
    await connection.close()


async def _database(server: str, name: str) -> str:
    connection = await asyncpg.connect(server)
    await connection.execute(f"create database {name}")
    await connection.close()
    return server.replace("/postgres?", f"/{name}?")
