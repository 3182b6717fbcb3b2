"""`GET /health` and `GET /ready`: whether the process lives, and whether it should get traffic."""

from typing import Any

import msgspec
from aiohttp import web
from faust.web import View

from streamlens.app import app
from web.services import HealthReport, Part, current

__all__ = ["HealthReport", "Part"]

_HEALTHY = msgspec.json.encode({"status": "healthy"})


@app.page("/health")
class Health(View):
    """Good as long as the event loop turns; says nothing of brokers and databases."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        return web.Response(body=_HEALTHY, content_type="application/json")


@app.page("/ready")
class Ready(View):
    """200 when all parts are well, else 503; the body tells of each."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        report = current().health()
        body = {"status": "ready" if report.ok else "not ready", "parts": report}
        return web.Response(
            status=200 if report.ok else 503,
            body=msgspec.json.encode(body),
            content_type="application/json",
            headers={} if report.ok else {"Retry-After": "1"},
        )
