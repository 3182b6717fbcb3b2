"""`GET /v1/…`: the rows, the ledger and what exists, as Postgres has them."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import asyncpg
import orjson
import structlog
from aiohttp import web
from faust.web import View

from streamlens.app import app
from streamlens.errors import BadSetting, Unavailable
from streamlens.facets import FACETS
from streamlens.postgres import queries
from web.otlp import ExportedMetrics
from web.parameters import Parameters
from web.problem import Problem
from web.services import current

STEPS_US = {"1m": 60_000_000, "5m": 300_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}
GROUPS = ("route", "model")
ANSWER_S = 8.0
"""Longest time a question may take; above the timeout of a statement, so that the server gives up first."""

_T = TypeVar("_T")
log = structlog.get_logger()


@app.page("/v1/metrics")
class Metrics(ExportedMetrics):
    """Rows per window, newest first; longer steps and coarser groups merge their histograms. What OTLP posts to the
    same path are measurements of systems."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        names = ("tenant_id", "route", "model", "from", "to", "step", "group_by", "limit")
        parameters = Parameters(request, names)
        from_us, to_us = parameters.span_us()
        facet, route, model = parameters.among("group_by", FACETS), parameters.name("route"), parameters.name("model")
        if facet and (route or model):
            at_fault = "route" if route else "model"
            raise Problem(400, "facets are counted over all routes and models", field=at_fault)
        rows = await answered(
            queries.metrics(
                current().pool,
                tenant_id=parameters.name("tenant_id"),
                route=route,
                model=model,
                from_us=from_us,
                to_us=to_us,
                step_us=parameters.choice("step", STEPS_US, "1m"),
                group_by=GROUPS if facet else parameters.names("group_by", GROUPS, "route,model"),
                facet=facet,
                limit=parameters.count("limit", 1, 10_000, 60),
            )
        )
        return _json({"metrics": rows, "count": len(rows)})


@app.page("/v1/tenants")
class Tenants(View):
    """The tenants that have rows."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        tenant_id = Parameters(request, ()).name("tenant_id")
        return _json({"tenants": await answered(queries.tenants(current().pool, tenant_id))})


@app.page("/v1/series")
class Series(View):
    """The routes and models of a tenant, or of all."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        tenant_id = Parameters(request, ("tenant_id",)).name("tenant_id")
        return _json({"series": await answered(_series(current().pool, tenant_id))})


@app.page("/v1/ledger")
class Ledger(View):
    """What became of every event, per tenant and minute."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        parameters = Parameters(request, ("tenant_id", "from", "to", "limit"))
        from_us, to_us = parameters.span_us()
        tenant_id = parameters.name("tenant_id")
        limit = parameters.count("limit", 1, 10_000, 10_000)
        rows = await answered(queries.ledger(current().pool, tenant_id, from_us, to_us, limit))
        return _json({"ledger": rows})


async def _series(pool: Any, tenant_id: str | None) -> list[dict[str, Any]]:
    if tenant_id is not None:
        return await queries.series(pool, tenant_id)
    return [row for tenant in await queries.tenants(pool) for row in await queries.series(pool, tenant["tenant_id"])]


async def answered(question: Awaitable[_T]) -> _T:
    """Raises `Unavailable`, without the internals that its cause may tell, when Postgres does not answer in time."""
    try:
        async with asyncio.timeout(ANSWER_S):
            return await question
    except (Unavailable, BadSetting, TimeoutError, asyncpg.UndefinedTableError) as error:
        # Without its tables it is one that has just come back and is about to be migrated.
        log.debug("web.postgres_unavailable", error=str(error))
        raise Unavailable("Postgres does not answer; events are taken all the same", retry_after_s=2) from error


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
