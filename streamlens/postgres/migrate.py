"""Brings a database to the schema of this version: `deploy/migrations/NNN_name.sql`, in order, once each.

Runs at every start and as `streamlens migrate`. Processes that start together wait for each other.
"""

import hashlib
from pathlib import Path

import asyncpg
import msgspec
import structlog

from streamlens.errors import BadSetting
from streamlens.postgres.connection import connect, transaction, unavailable

log = structlog.get_logger()

DIRECTORY = Path(__file__).parents[2] / "deploy" / "migrations"

_LOCK = int.from_bytes(b"strlens", "big")
"""Of the advisory lock. Any number will do that no other program in the database uses."""

_TABLE = """
create table if not exists streamlens_migrations (
    name text primary key,
    sha256 text not null,
    applied_at timestamptz not null default now()
)
"""


class Migration(msgspec.Struct, frozen=True):
    """One numbered file of SQL. What was applied is recognised by name and checksum."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(directory: Path = DIRECTORY) -> list[Migration]:
    """The migrations of this version, in order. Raises `BadSetting` when there are none."""
    found = [Migration(file.name, file.read_text("utf-8")) for file in sorted(directory.glob("[0-9][0-9][0-9]_*.sql"))]
    if not found:
        raise BadSetting(f"no migrations in {directory}: the installation is incomplete")
    return found


async def migrate(dsn: str, directory: Path = DIRECTORY) -> list[str]:
    """Apply what is missing, each in a transaction of its own. Returns the names applied now.

    Raises `BadSetting` when the database has a migration that this version lacks, or one whose text has changed since.
    """
    known = migrations(directory)
    connection = await connect(dsn, statement_timeout_s=3600)
    try:
        with unavailable():
            # Held until the connection ends, so a killed process never keeps it.
            await connection.execute("select pg_advisory_lock($1)", _LOCK)
            await connection.execute(_TABLE)
            applied = dict(await connection.fetch("select name, sha256 from streamlens_migrations"))
            _check(known, applied)
            missing = [migration for migration in known if migration.name not in applied]
            for migration in missing:
                await _apply(connection, migration)
    finally:
        connection.terminate()
    return [migration.name for migration in missing]


def _check(known: list[Migration], applied: dict[str, str]) -> None:
    checksums = {migration.name: migration.sha256 for migration in known}
    for name, sha256 in applied.items():
        if name not in checksums:
            raise BadSetting(f"the database has the migration {name}, which this version does not know: it is newer")
        if checksums[name] != sha256:
            raise BadSetting(f"the migration {name} was changed after it was applied; add a new one instead")
    for number, name in enumerate(sorted(checksums)[: len(applied)]):
        if name not in applied:
            raise BadSetting(f"the migration {name} comes before {sorted(applied)[number]}, which was applied already")


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    async with transaction(connection):
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into streamlens_migrations (name, sha256) values ($1, $2)", migration.name, migration.sha256
        )
    log.info("postgres_migrated", migration=migration.name)
