"""`GET /v1/evaluations`, `/v1/tallies`, `/api/v1/analytics/logs/recent`: what applications told besides their calls."""

from typing import Any

import orjson
from aiohttp import web
from faust.web import View

from streamlens.app import app
from streamlens.observations import LEVELS
from streamlens.postgres import observed_queries
from web.intake import EvaluationEvents
from web.parameters import Parameters
from web.query import STEPS_US, answered
from web.services import current

KINDS = ("log", "metric", "warning")


@app.page("/v1/evaluations")
class Evaluations(EvaluationEvents):
    """How good calls were, by series and name of the evaluation."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        names = ("tenant_id", "route", "model", "name", "from", "to", "step", "limit")
        parameters = Parameters(request, names)
        from_us, to_us = parameters.span_us()
        rows = await answered(
            observed_queries.evaluations(
                current().pool,
                tenant_id=parameters.name("tenant_id"),
                route=parameters.name("route"),
                model=parameters.name("model"),
                name=parameters.name("name"),
                from_us=from_us,
                to_us=to_us,
                step_us=parameters.choice("step", STEPS_US, "1m"),
                limit=parameters.count("limit", 1, 10_000, 60),
            )
        )
        return _json({"evaluations": rows, "count": len(rows)})


@app.page("/v1/tallies")
class Tallies(View):
    """Lines of logs, system metrics and warnings, counted."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        parameters = Parameters(request, ("kind", "tenant_id", "name", "from", "to", "step", "limit"))
        from_us, to_us = parameters.span_us()
        rows = await answered(
            observed_queries.tallies(
                current().pool,
                kinds=parameters.names("kind", KINDS, ",".join(KINDS)),
                tenant_id=parameters.name("tenant_id"),
                name=parameters.name("name"),
                from_us=from_us,
                to_us=to_us,
                step_us=parameters.choice("step", STEPS_US, "1m"),
                limit=parameters.count("limit", 1, 10_000, 60),
            )
        )
        return _json({"tallies": rows, "count": len(rows)})


@app.page("/api/v1/analytics/logs/recent")
class RecentLogs(View):
    """The newest lines of application logs."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        parameters = Parameters(request, ("tenant_id", "level", "service", "limit"))
        rows = await answered(
            observed_queries.recent_logs(
                current().pool,
                tenant_id=parameters.name("tenant_id"),
                levels=parameters.names("level", LEVELS, ",".join(LEVELS)),
                service=parameters.name("service"),
                limit=parameters.count("limit", 1, 1_000, 100),
            )
        )
        return _json({"logs": rows, "count": len(rows)})


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
