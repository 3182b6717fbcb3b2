"""`GET /metrics`: what this process measures of itself, for Prometheus."""

from typing import Any

from aiohttp import web
from faust.web import View
from prometheus_client.exposition import choose_encoder

from streamlens.app import app
from streamlens.metrics import REGISTRY
from web.contract import declares


@app.page("/metrics")
class Prometheus(View):
    """What this process measures of itself: Prometheus text, or OpenMetrics where Accept asks for it."""

    @declares(kinds=("text/plain", "application/openmetrics-text"))
    async def get(self, request: web.Request, **_: Any) -> web.Response:
        app.runtime.observe()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type, "Vary": "Accept"})
