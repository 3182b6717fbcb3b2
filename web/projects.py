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
from web.asked import Asked, KeysTenant, Limit
from web.body import body_of
from web.contract import Answer, Body, asks, declares
from web.problem import Problem
from web.query import answered
from web.services import current

_MAX_BYTES = 16 * 1024
_EXAMPLE = {"id": "acme", "name": "The shop of Acme"}
_encode = msgspec.json.Encoder().encode


class NewProject(msgspec.Struct, frozen=True):
    """Without an `id` the key's tenant is meant, else one is made up."""

    name: Name
    id: Name | None = None


class ProjectsAsked(Asked, frozen=True, kw_only=True):
    """All; a tenant's key sees its own."""

    tenant_id: KeysTenant | None = None
    limit: Limit = 10_000


class ProjectsAnswer(Answer, frozen=True, kw_only=True):
    """By id, without those deleted."""

    projects: list[projects.Project]


class DeletedProject(Answer, frozen=True, kw_only=True):
    """What has ended."""

    id: str
    revoked_keys: int


@app.page("/api/v1/projects")
class Projects(View):
    """The projects that a key is for."""

    @asks(ProjectsAsked, ProjectsAnswer)
    async def get(self, asked: ProjectsAsked) -> dict[str, Any]:
        return {"projects": msgspec.to_builtins(await answered(_list(asked.tenant_id, asked.limit)))}

    @declares(body=Body(event=NewProject, examples=[_EXAMPLE]), answer=projects.Project, status=201, others={409: None})
    async def post(self, request: web.Request, **_: Any) -> web.Response:
        """Makes a project: a tenant with a name."""
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

    @declares(answer=DeletedProject)
    async def delete(self, request: web.Request, id: str, **_: Any) -> web.Response:
        """Ends a project: its keys are revoked at once in this process, and within seconds in others. Its rows stay."""
        key_of(request).must_own(id)
        revoked = await answered(_delete(id))
        if revoked is None:
            raise Problem(404, "there is no such project")
        if keys := current().keys:
            with suppress(Unavailable):
                await keys.refresh()
        return _json({"id": id, "revoked_keys": revoked})


def _decoded(body: bytes) -> NewProject:
    try:
        new = msgspec.json.decode(body, type=NewProject)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail, _, path = str(error).partition(" - at `$.")
        raise Problem(400, detail, field=path.rstrip("`")) from None
    except RecursionError:
        raise Problem(400, "nested too deeply") from None
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
