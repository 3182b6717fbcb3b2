"""`GET /health` and `GET /ready`: whether the process lives, and whether it should get traffic."""

from typing import Any, Literal

import msgspec
from aiohttp import web
from faust.web import View

from streamlens.app import app
from web.contract import Answer, declares
from web.services import HealthReport, Part, current

__all__ = ["HealthReport", "Part"]


class HealthAnswer(Answer, frozen=True, kw_only=True):
    """The process lives."""

    status: Literal["healthy"]


class ReadyAnswer(Answer, frozen=True, kw_only=True):
    """How each part does."""

    status: Literal["ready", "not ready"]
    parts: HealthReport


_HEALTHY = msgspec.json.encode({"status": "healthy"})


@app.page("/health")
class Health(View):
    """Good as long as the event loop turns; says nothing of brokers and databases."""

    @declares(answer=HealthAnswer)
    async def get(self, request: web.Request, **_: Any) -> web.Response:
        return web.Response(body=_HEALTHY, content_type="application/json")


@app.page("/ready")
class Ready(View):
    """200 when all parts are well, else 503; the body tells of each."""

    @declares(answer=ReadyAnswer, others={503: ReadyAnswer})
    async def get(self, request: web.Request, **_: Any) -> web.Response:
        report = current().health()
        body = {"status": "ready" if report.ok else "not ready", "parts": report}
        return web.Response(
            status=200 if report.ok else 503,
            body=msgspec.json.encode(body),
            content_type="application/json",
            headers={} if report.ok else {"Retry-After": "1"},
        )
