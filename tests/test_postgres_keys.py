"""Keys and projects in a real Postgres, and how a process follows them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from streamlens.errors import BadSetting, Unavailable
from streamlens.keys import Keys, new_secret, sha256_of
from streamlens.postgres import keys as postgres_keys
from streamlens.postgres.embedded import EmbeddedPostgres
from streamlens.postgres.keys import KeyReader, create_key, list_keys, revoke_key
from streamlens.postgres.migrate import migrate
from streamlens.postgres.projects import create_project, delete_project, list_projects


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(dsn)
    yield opened
    await opened.close()


@pytest.fixture
async def reader(dsn: str) -> AsyncIterator[KeyReader]:
    opened = KeyReader(dsn)
    yield opened
    opened.close()


async def made(connection: asyncpg.Connection, tenant_id: str | None = "acme", *scopes: str) -> tuple[str, int]:
    secret = new_secret()
    return secret, await create_key(connection, sha256_of(secret), tenant_id, scopes or ("read",), "a name")


async def test_a_key_is_known_after_the_next_look_and_refused_after_the_one_that_follows_its_revocation(
    connection: asyncpg.Connection, reader: KeyReader
) -> None:
    keys = Keys(reader.load)
    await keys.refresh()
    secret, key_id = await made(connection, "acme", "ingest", "read")
    assert keys.find(secret) is None
    await keys.refresh()
    key = keys.find(secret)
    assert key is not None
    assert (key.id, key.tenant_id, key.scopes) == (key_id, "acme", {"ingest", "read"})
    assert await revoke_key(connection, key_id)
    assert not await revoke_key(connection, key_id)
    assert not await revoke_key(connection, key_id + 1)
    await keys.refresh()
    assert keys.find(secret) is None


async def test_secrets_are_nowhere_in_the_database(connection: asyncpg.Connection) -> None:
    secret, _ = await made(connection, None)
    (row,) = await connection.fetch("select k::text from streamlens_keys k")
    assert secret not in row[0] and secret[3:] not in row[0]
    assert sha256_of(secret).hex() in row[0]


CHANGES = [
    "insert into streamlens_keys (sha256, scopes, name) values (sha256('x'), '{read}', '')",
    "update streamlens_keys set revoked_at = now()",
    "update streamlens_keys set scopes = '{admin}'",
    "delete from streamlens_keys",
    "truncate streamlens_keys",
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_by_any_hand_is_seen_and_no_change_costs_one_number(
    connection: asyncpg.Connection, reader: KeyReader, change: str
) -> None:
    secret, _ = await made(connection)
    loaded = await reader.load(-1)
    assert loaded is not None and [key.sha256 for key in loaded[1]] == [sha256_of(secret)]
    assert await reader.load(loaded[0]) is None
    async with connection.transaction():
        await connection.execute(change)
        assert await reader.load(loaded[0]) is None  # not yet committed
    changed = await reader.load(loaded[0])
    assert changed is not None
    assert [(key.id, key.scopes) for key in changed[1]] != [(key.id, key.scopes) for key in loaded[1]]


async def test_many_keys_are_read_a_piece_at_a_time_and_are_bounded(
    connection: asyncpg.Connection, reader: KeyReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute(
        "insert into streamlens_keys (sha256, scopes, name) select sha256(n::text::bytea), '{read}', '' "
        "from generate_series(1, 1200) n"
    )
    loaded = await reader.load(-1)
    assert loaded is not None and len(loaded[1]) == 1200
    monkeypatch.setattr(postgres_keys, "MOST_KEYS", 1200)
    with pytest.raises(BadSetting, match="there are 1,200 keys already: revoke some"):
        await made(connection)


BAD_ROWS = [("{}", b"x" * 32), ("{read,root}", b"x" * 32), ("{read}", b"short")]


@pytest.mark.parametrize(("scopes", "sha256"), BAD_ROWS)
async def test_a_key_without_sense_is_refused(connection: asyncpg.Connection, scopes: str, sha256: bytes) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            "insert into streamlens_keys (sha256, scopes, name) values ($1, $2::text::text[], '')", sha256, scopes
        )


async def test_projects(connection: asyncpg.Connection) -> None:
    shop = await create_project(connection, "shop", "The shop")
    assert shop is not None and (shop.id, shop.name) == ("shop", "The shop")
    assert await create_project(connection, "shop", "Again") is None
    lab = await create_project(connection, "lab", "The lab")
    assert await list_projects(connection, None, 10) == [lab, shop]
    assert await list_projects(connection, None, 1) == [lab]
    assert await list_projects(connection, "shop", 10) == [shop]


async def test_a_deleted_project_has_no_keys_gets_none_and_never_comes_back(
    connection: asyncpg.Connection, reader: KeyReader
) -> None:
    await create_project(connection, "shop", "The shop")
    await made(connection, "shop")
    other, _ = await made(connection, "lab")
    assert await delete_project(connection, "shop") == 1
    assert await delete_project(connection, "shop") is None
    assert await delete_project(connection, "lab") is None
    loaded = await reader.load(-1)
    assert loaded is not None and [key.sha256 for key in loaded[1]] == [sha256_of(other)]
    assert sorted((row.tenant_id, row.revoked_at is None) for row in await list_keys(connection)) == [
        ("lab", True),
        ("shop", False),
    ]
    with pytest.raises(BadSetting, match="the project shop is deleted"):
        await made(connection, "shop")
    assert await create_project(connection, "shop", "Somebody else's") is None
    assert await list_projects(connection, None, 10) == []


async def test_no_key_slips_in_while_a_project_is_deleted(connection: asyncpg.Connection, dsn: str) -> None:
    await create_project(connection, "shop", "The shop")
    deleting = await asyncpg.connect(dsn)
    async with deleting.transaction():
        await delete_project(deleting, "shop")
        creating = asyncio.create_task(made(connection, "shop"))
        blocked = "select count(*) from pg_locks where not granted and relation = 'streamlens_keys'::regclass"
        async with asyncio.timeout(10):
            while not await deleting.fetchval(blocked):
                assert not creating.done()
    with pytest.raises(BadSetting, match="is deleted"):
        await creating
    await deleting.close()


@pytest.mark.parametrize(
    ("unusable", "reason"),
    [
        ("postgresql://nobody@127.0.0.1:1/nothing", "Postgres"),
        ("no_such_database", "does not exist"),
        ("not migrated", "streamlens_keys_version"),
    ],
)
async def test_what_can_not_be_read_now_is_asked_again(empty_dsn: str, unusable: str, reason: str) -> None:
    dsn = {"not migrated": empty_dsn, "no_such_database": empty_dsn.replace("/test", "/none")}.get(unusable, unusable)
    reader = KeyReader(dsn)
    with pytest.raises(Unavailable, match=reason):
        await reader.load(-1)
    if unusable == "not migrated":
        await migrate(dsn)
        assert await reader.load(-1) is not None
    reader.close()


async def test_a_server_that_was_killed_is_read_again_when_it_is_back(lone_postgres: EmbeddedPostgres) -> None:
    dsn = lone_postgres.start()
    await migrate(dsn)
    reader = KeyReader(dsn)
    keys = Keys(reader.load)
    connection = await asyncpg.connect(dsn)
    secret, key_id = await made(connection)
    await keys.refresh()
    lone_postgres.stop()
    with pytest.raises(Unavailable):
        await keys.refresh()
    assert keys.find(secret) is not None, "the last copy stays in force"
    lone_postgres.start()
    again: Any = await asyncpg.connect(dsn)
    assert await revoke_key(again, key_id)
    await keys.refresh()
    assert keys.find(secret) is None
    await again.close()
    reader.close()
