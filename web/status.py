"""`GET /api/v1/status`: how this process does, what it is set to, and how far it is."""

from importlib.metadata import version
from typing import Any

import msgspec
from faust.web import View

from streamlens.app import app
from streamlens.metrics import DEAD_LETTERS
from web.asked import Asked, KeysTenant
from web.contract import Answer, asks
from web.services import HealthReport, current

_VERSION = version("streamlens")
_CATALOGUE = f"genai-prices {version('genai-prices')}"


class StatusAsked(Asked, frozen=True, kw_only=True):
    """Nothing."""

    tenant_id: KeysTenant | None = None


class StatusSettings(Answer, frozen=True, kw_only=True):
    """What a client may want to know of the settings."""

    auth: str
    capture_content: str
    facets: list[str]
    window_s: int


class StatusAnswer(Answer, frozen=True, kw_only=True):
    """Of the process that answers. Numbers are null where there is nothing to tell of yet."""

    status: str
    version: str
    uptime_s: float
    worker: str
    parts: HealthReport
    lag_records: int
    watermark_lag_s: float | None
    checkpoint_age_s: float | None
    freshness_p95_s: float | None
    dead_letters: dict[str, int] | None
    """Since the start, by reason; null for a tenant's key."""
    settings: StatusSettings
    price_catalogue: str


@app.page("/api/v1/status")
class Status(View):
    """`healthy` when all parts are, else `degraded`."""

    @asks(StatusAsked, StatusAnswer)
    async def get(self, asked: StatusAsked) -> dict[str, Any]:
        services = current()
        report, settings = services.health(), services.settings
        return {
            "status": "healthy" if report.ok else "degraded",
            "version": _VERSION,
            "parts": msgspec.to_builtins(report),
            **msgspec.structs.asdict(services.progress()),
            "dead_letters": _dead_letters() if asked.tenant_id is None else None,
            "settings": {
                "auth": settings.auth,
                "capture_content": settings.capture_content,
                "facets": settings.kept_facets,
                "window_s": settings.window_s,
            },
            "price_catalogue": _CATALOGUE,
        }


def _dead_letters() -> dict[str, int]:
    (family,) = DEAD_LETTERS.collect()
    return {sample.labels["reason"]: int(sample.value) for sample in family.samples if sample.name.endswith("_total")}
