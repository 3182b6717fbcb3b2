"""`/api/v1/projects`: making, listing and deleting, with and without keys."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from streamlens.keys import Keys, new_secret, sha256_of
from streamlens.postgres.keys import KeyReader, create_key
from streamlens.postgres.store import PostgresStore
from web_server import Site, serving

PATH = "/api/v1/projects"


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    async with serving(tmp_path, pool=store.pool) as site:
        yield site


async def made(site: Site, **project: str) -> dict[str, Any]:
    answer = await site.http.post(PATH, json=project)
    body: dict[str, Any] = await answer.json()
    assert answer.status == 201, body
    return body


async def ids(site: Site, query: str = "", **headers: str) -> list[str]:
    body = await (await site.http.get(PATH + query, headers=headers)).json()
    return [project["id"] for project in body["projects"]]


async def test_a_project_from_its_making_to_its_end(site: Site) -> None:
    shop = await made(site, id="shop", name="The shop ü")
    assert shop.keys() == {"id", "name", "created_at"}
    assert (shop["id"], shop["name"]) == ("shop", "The shop ü")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", shop["created_at"])
    unnamed = await made(site, name="No id", description="not known, so not kept")
    assert re.fullmatch(r"[0-9a-f]{16}", unnamed["id"])
    assert set(await ids(site)) == {"shop", unnamed["id"]}
    assert len(await ids(site, "?limit=1")) == 1

    gone = await site.http.delete(f"{PATH}/shop")
    assert (gone.status, await gone.json()) == (200, {"id": "shop", "revoked_keys": 0})
    assert await ids(site) == [unnamed["id"]]
    assert (await site.http.delete(f"{PATH}/shop")).status == 404
    again = await site.http.post(PATH, json={"id": "shop", "name": "Somebody else's"})
    assert (again.status, (await again.json())["field"]) == (409, "id")


async def test_an_id_is_any_name_of_a_tenant(site: Site) -> None:
    await made(site, id="böse & co/1?", name="x")
    assert (await site.http.delete(f"{PATH}/b%C3%B6se%20%26%20co%2F1%3F")).status == 200


BAD = [
    (b"", ""),
    (b"[]", ""),
    (b'{"id": "a"}', ""),
    (b'{"name": ""}', "name"),
    (b'{"name": null}', "name"),
    (b'{"name": 5}', "name"),
    (b'{"name": "a\\u0000"}', "name"),
    (b'{"name": "a", "id": "\\u0000"}', "id"),
    (b'{"name": "a", "id": ""}', "id"),
    (json.dumps({"name": "a" * 257}).encode(), "name"),
    (json.dumps({"name": "a", "id": "b" * 257}).encode(), "id"),
    (b'{"name": "\xff"}', ""),
    (b'{"name": "a", "more": ' + b"[" * 10_000, ""),
]


@pytest.mark.parametrize(("body", "field"), BAD, ids=range(len(BAD)))
async def test_a_bad_project_is_named(tmp_path: Path, body: bytes, field: str) -> None:
    async with serving(tmp_path) as site:  # no pool: nothing of it may reach Postgres
        answer = await site.http.post(PATH, data=body)
        problem = await answer.json()
    assert (answer.status, answer.content_type, problem.get("field", "")) == (400, "application/problem+json", field)


async def test_a_large_body_is_refused(site: Site) -> None:
    assert (await site.http.post(PATH, json={"name": "a", "more": "x" * 20_000})).status == 413


async def test_a_page_of_another_site_may_not_make_one(site: Site) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert (await site.http.post(PATH, json={"name": "a"}, headers=headers)).status == 403


async def test_without_postgres_it_is_told_to_come_again(tmp_path: Path) -> None:
    away = await PostgresStore.open("postgresql://nobody@127.0.0.1:1/nothing")
    async with serving(tmp_path, pool=away.pool) as site:
        for answer in (
            await site.http.get(PATH),
            await site.http.post(PATH, json={"name": "a"}),
            await site.http.delete(f"{PATH}/a"),
        ):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert "127.0.0.1" not in await answer.text()
    await away.close()


async def test_a_tenants_admin_has_its_own_project_alone(tmp_path: Path, store: PostgresStore, dsn: str) -> None:
    connection, reader = await asyncpg.connect(dsn), KeyReader(dsn)
    headers, keys = {}, Keys(reader.load)
    for tenant_id in ("shop", "lab"):
        secret = new_secret()
        await create_key(connection, sha256_of(secret), tenant_id, ["admin"], "")
        headers[tenant_id] = {"X-API-Key": secret}
    await keys.refresh()
    async with serving(tmp_path, pool=store.pool, keys=keys) as site:
        assert (await site.http.post(PATH, json={"name": "The lab"}, headers=headers["lab"])).status == 201
        for project_id, status in (("lab", 403), ("other", 403), ("shop", 201)):
            answer = await site.http.post(PATH, json={"id": project_id, "name": "x"}, headers=headers["shop"])
            assert answer.status == status
        assert await ids(site, **headers["shop"]) == ["shop"]
        assert (await site.http.delete(f"{PATH}/lab", headers=headers["shop"])).status == 403
        gone = await site.http.delete(f"{PATH}/shop", headers=headers["shop"])
        assert (gone.status, await gone.json()) == (200, {"id": "shop", "revoked_keys": 1})
        assert (await site.http.get(PATH, headers=headers["shop"])).status == 401, "at once"
        assert await ids(site, **headers["lab"]) == ["lab"]
    reader.close()
    await connection.close()
