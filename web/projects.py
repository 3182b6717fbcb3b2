"""`/api/v1/projects`: tenants with a name, and the end of one: its keys are revoked, its rows stay."""

import secrets
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import web
from faust.web import View

from streamlens.app import app
from streamlens.errors import Unavailable
from streamlens.fields import Name
from streamlens.postgres import projects
from streamlens.postgres.connection import reader
from web.access import key_of
from web.body import body_of
from web.parameters import Parameters
from web.problem import Problem
from web.query import answered
from web.services import current

_MAX_BYTES = 16 * 1024
_encode = msgspec.json.Encoder().encode


class _NewProject(msgspec.Struct, frozen=True):
    name: Name
    id: Name | None = None


@app.page("/api/v1/projects")
class Projects(View):
    """The projects that a key is for."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        parameters = Parameters(request, ("limit",))
        limit = parameters.count("limit", 1, 10_000, 10_000)
        return _json({"projects": await answered(_list(parameters.name("tenant_id"), limit))})

    async def post(self, request: web.Request, **_: Any) -> web.Response:
        """Its body has a `name` and, if it shall not be made up, an `id`."""
        async with body_of(request, _MAX_BYTES) as body:
            new = _decoded(body)
        project_id = new.id or key_of(request).tenant_id or secrets.token_hex(8)
        key_of(request).must_own(project_id)
        project = await answered(_create(project_id, new.name))
        if project is None:
            raise Problem(409, "there is a project with this id, or there was one before it was deleted", field="id")
        return _json(project, status=201)


@app.page("/api/v1/projects/{id}")
class OneProject(View):
    """One project."""

    async def delete(self, request: web.Request, id: str, **_: Any) -> web.Response:
        """Its keys are revoked at once in this process, and within seconds in others. Its rows stay."""
        key_of(request).must_own(id)
        revoked = await answered(_delete(id))
        if revoked is None:
            raise Problem(404, "there is no such project")
        if keys := current().keys:
            with suppress(Unavailable):
                await keys.refresh()
        return _json({"id": id, "revoked_keys": revoked})


def _decoded(body: bytes) -> _NewProject:
    try:
        new = msgspec.json.decode(body, type=_NewProject)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail, _, path = str(error).partition(" - at `$.")
        raise Problem(400, detail, field=path.rstrip("`")) from None
    for field in ("id", "name"):
        if "\0" in (getattr(new, field) or ""):
            raise Problem(400, "contains a NUL character", field=field)
    return new


async def _list(tenant_id: str | None, limit: int) -> list[projects.Project]:
    async with reader(current().pool) as connection:
        return await projects.list_projects(connection, tenant_id, limit)


async def _create(project_id: str, name: str) -> projects.Project | None:
    async with reader(current().pool) as connection:
        return await projects.create_project(connection, project_id, name)


async def _delete(project_id: str) -> int | None:
    async with reader(current().pool) as connection:
        return await projects.delete_project(connection, project_id)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")
