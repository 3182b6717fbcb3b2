"""Keys in Postgres: how they are made, revoked and listed, and how a process reads them all."""

import asyncio
from collections.abc import Collection
from datetime import datetime

import asyncpg
import msgspec

from streamlens.errors import BadSetting, Unavailable
from streamlens.keys import MOST_KEYS, Key
from streamlens.postgres.connection import connect, transaction, unavailable

LOAD_S = 10.0
"""Longest time a look for changes may take; a silent server is given up then."""
_AT_A_TIME = 500
"""After so many keys, a millisecond's work, other tasks get a turn."""

_ALONE = "lock table streamlens_keys in share row exclusive mode"
_LIVE = "select count(*) from streamlens_keys where revoked_at is null"
_DELETED = "select deleted_at is not null from streamlens_projects where id = $1"
_CREATE = "insert into streamlens_keys (sha256, tenant_id, scopes, name) values ($1, $2, $3, $4) returning id"
_REVOKE = "update streamlens_keys set revoked_at = now() where id = $1 and revoked_at is null"
_LIST = "select id, tenant_id, scopes, name, created_at, revoked_at from streamlens_keys order by id"
_VERSION = "select version from streamlens_keys_version"
_LOAD = f"""select id, sha256, tenant_id, scopes from streamlens_keys where revoked_at is null
    order by id limit {MOST_KEYS}"""


class KeyRow(msgspec.Struct, frozen=True):
    """A key as it is listed. `tenant_id` None: for all tenants."""

    id: int
    tenant_id: str | None
    scopes: list[str]
    name: str
    created_at: datetime
    revoked_at: datetime | None


async def alone(connection: asyncpg.Connection) -> None:
    """Until the transaction ends nobody else changes keys: none is made for a project that is being deleted."""
    await connection.execute(_ALONE)


async def create_key(
    connection: asyncpg.Connection, sha256: bytes, tenant_id: str | None, scopes: Collection[str], name: str
) -> int:
    """Its id. Raises `BadSetting` for a tenant whose project is deleted, and when there are too many keys."""
    async with transaction(connection):
        await alone(connection)
        if await connection.fetchval(_DELETED, tenant_id):
            raise BadSetting(f"the project {tenant_id} is deleted")
        if await connection.fetchval(_LIVE) >= MOST_KEYS:
            raise BadSetting(f"there are {MOST_KEYS:,} keys already: revoke some")
        return int(await connection.fetchval(_CREATE, sha256, tenant_id, list(scopes), name))


async def revoke_key(connection: asyncpg.Connection, key_id: int) -> bool:
    """False when there is no such key that is not revoked yet."""
    return bool(await connection.execute(_REVOKE, key_id) == "UPDATE 1")


async def list_keys(connection: asyncpg.Connection) -> list[KeyRow]:
    """All keys, revoked ones too, the oldest first."""
    return [KeyRow(**row) for row in await connection.fetch(_LIST)]


class KeyReader:
    """Reads all keys for `streamlens.keys.Keys`, over a connection of its own: no slow question holds it up."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None

    async def load(self, version: int) -> tuple[int, list[Key]] | None:
        """The version and the keys, the oldest `MOST_KEYS`; None when the version is the given one. Raises
        `Unavailable`, after which the next call connects anew."""
        try:
            with unavailable():
                async with asyncio.timeout(LOAD_S):
                    return await self._load(version)
        except BaseException as error:
            self.close()
            if isinstance(error, BadSetting | asyncpg.UndefinedTableError):
                # It worked, or was away, when we started: a password was changed, or it is about to be migrated.
                raise Unavailable(f"Postgres: {error}") from error
            raise

    async def _load(self, version: int) -> tuple[int, list[Key]] | None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, LOAD_S)
        newest = await self._connection.fetchval(_VERSION)  # first: what changes meanwhile is seen by the next look
        if newest == version:
            return None
        async with transaction(self._connection):
            rows = self._connection.cursor(_LOAD, prefetch=_AT_A_TIME)
            keys = [Key(row["id"], row["sha256"], row["tenant_id"], frozenset(row["scopes"])) async for row in rows]
        return newest, keys

    def close(self) -> None:
        """Without waiting for what it does."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
