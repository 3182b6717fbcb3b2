"""Projects in Postgres. A project is a tenant with a name; a tenant needs none to be counted."""

from datetime import datetime

import asyncpg
import msgspec

from streamlens.postgres.connection import transaction
from streamlens.postgres.keys import alone

_LIST = """select id, name, created_at from streamlens_projects
    where deleted_at is null and ($1::text is null or id = $1) order by id limit $2"""
_CREATE = """insert into streamlens_projects (id, name) values ($1, $2) on conflict do nothing
    returning id, name, created_at"""
_DELETE = "update streamlens_projects set deleted_at = now() where id = $1 and deleted_at is null"
_REVOKE = "update streamlens_keys set revoked_at = now() where tenant_id = $1 and revoked_at is null returning id"


class Project(msgspec.Struct, frozen=True):
    """`id` is the tenant."""

    id: str
    name: str
    created_at: datetime


async def list_projects(connection: asyncpg.Connection, tenant_id: str | None, limit: int) -> list[Project]:
    """Those that are not deleted, by id; with a tenant, its own."""
    return [Project(**row) for row in await connection.fetch(_LIST, tenant_id, limit)]


async def create_project(connection: asyncpg.Connection, tenant_id: str, name: str) -> Project | None:
    """None when there is one with this id, or was: the rows of a deleted one must not come to somebody else."""
    row = await connection.fetchrow(_CREATE, tenant_id, name)
    return None if row is None else Project(**row)


async def delete_project(connection: asyncpg.Connection, tenant_id: str) -> int | None:
    """Mark it deleted and revoke its tenant's keys; its rows stay. How many keys, or None without such a project."""
    async with transaction(connection):
        await alone(connection)
        if await connection.execute(_DELETE, tenant_id) != "UPDATE 1":
            return None
        return len(await connection.fetch(_REVOKE, tenant_id))
