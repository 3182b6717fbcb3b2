"""`GET /v1/metrics/minute`, `/v1/errors/top`, `/api/v1/analytics/…`: questions about a span, each in its own shape."""

import asyncio
from typing import Annotated, Any

import msgspec
from faust.web import View
from msgspec import Meta

from streamlens.app import app
from streamlens.postgres import analytics
from streamlens.postgres.queries import MINUTE_US, moment, plain
from streamlens.postgres.windows import Place
from web.asked import PLACE, Limit, Name, Spanned, Step
from web.contract import Answer, Time, asks
from web.cursor import after, follows
from web.problem import Problem
from web.query import answered
from web.services import current

HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
MOST_POINTS = 2_000

_STEPS = ((3 * HOUR_US, MINUTE_US), (12 * HOUR_US, 5 * MINUTE_US), (7 * DAY_US, HOUR_US))
"""Spans up to these have steps of these, unless others are asked for; longer ones have days."""


class DaySpanned(Spanned, frozen=True, kw_only=True):
    """Without `from` the 24 hours before `to`, without `to` until now."""

    def span_us(self) -> tuple[int, int]:
        """Both ends."""
        to_us = max(current().clock_us(), self.from_us or 0) if self.to_us is None else self.to_us
        return max(to_us - DAY_US, 0) if self.from_us is None else self.from_us, to_us


class MinutesAsked(Spanned, frozen=True, kw_only=True):
    """Which minutes."""

    model: Name | None = msgspec.field(default=None, name="model_id")
    limit: Limit = 60
    cursor: Annotated[Place, PLACE] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        follows(self.cursor, MINUTE_US, analytics.MINUTES_BY)


class MinuteRow(Answer, frozen=True, kw_only=True):
    """The calls of a model in a minute that tell one version of it, or with null none."""

    tenant_id: str
    minute: Time
    model: str
    model_version: str | None
    requests: int
    errors: int
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    tokens_in: int
    tokens_out: int


class MinutesAnswer(Answer, frozen=True, kw_only=True):
    """Newest first."""

    metrics: list[MinuteRow]
    count: int
    next: str | None


@app.page("/v1/metrics/minute")
class Minutes(View):
    """Minutes by model and version of the model."""

    @asks(MinutesAsked, MinutesAnswer)
    async def get(self, asked: MinutesAsked) -> dict[str, Any]:
        place = asked.cursor
        question = analytics.minutes(
            current().pool, asked.tenant_id, asked.model, asked.from_us, asked.to_us, asked.limit, place
        )
        rows = await answered(question)
        next = after(rows, asked.limit, lambda row: Place.of(row, MINUTE_US, analytics.MINUTES_BY, "minute"))
        return {"metrics": rows, "count": len(rows), "next": next}


class TopErrorsAsked(DaySpanned, frozen=True, kw_only=True):
    """Of which time."""

    limit: Limit = 20


class TopErrorRow(Answer, frozen=True, kw_only=True):
    """Errors of a class in a series. `last_seen` is the newest minute that has one."""

    tenant_id: str
    error_type: str
    route: str
    model: str
    count: int
    share: Annotated[float, Meta(description="Of all errors of the span, 0 to 1")]
    last_seen: Time


class TopErrorsAnswer(Answer, frozen=True, kw_only=True):
    """Most frequent first; `total` counts all errors of the span."""

    errors: list[TopErrorRow]
    count: int
    total: int


@app.page("/v1/errors/top")
class TopErrors(View):
    """The errors that are most frequent, by class, route and model."""

    @asks(TopErrorsAsked, TopErrorsAnswer)
    async def get(self, asked: TopErrorsAsked) -> dict[str, Any]:
        question = analytics.top_errors(current().pool, asked.tenant_id, *asked.span_us(), asked.limit)
        rows, total = await answered(question)
        return {"errors": rows, "count": len(rows), "total": total}


class Totals(Answer, frozen=True, kw_only=True):
    """All calls of a span. Numbers are null where there is nothing to measure."""

    requests: int
    errors: int
    error_rate: float | None
    avg_latency_ms: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    estimated_cost_usd: float | None
    unpriced: int
    active_models: int
    active_routes: int
    tenants: int


class DashboardAnswer(Totals, frozen=True, kw_only=True):
    """The span, and `previous`: as many minutes before it as it has that are over."""

    start: Time = msgspec.field(name="from")
    end: Time = msgspec.field(name="to")
    previous: Totals


@app.page("/api/v1/analytics/dashboard")
class Dashboard(View):
    """A span in one row, and the one before it, to compare."""

    @asks(DaySpanned, DashboardAnswer)
    async def get(self, asked: DaySpanned) -> dict[str, Any]:
        start, end = asked.span_us()
        # Windows start at whole minutes: those of the span that are over are in [first, last).
        first, last = _minute_from(start), min(_minute_from(end), current().clock_us() // MINUTE_US * MINUTE_US)
        pool, before = current().pool, max(min(first - (last - first), start), 0)
        now, previous = await asyncio.gather(
            answered(analytics.summary(pool, asked.tenant_id, start, end)),
            answered(analytics.summary(pool, asked.tenant_id, before, start)),
        )
        return plain({"from": moment(start), "to": moment(end)}) | now | {"previous": previous}


def _minute_from(time_us: int) -> int:
    """The first whole minute that is not before."""
    return -(-time_us // MINUTE_US) * MINUTE_US


class TimeseriesAsked(DaySpanned, frozen=True, kw_only=True):
    """Of which calls, and how close the points are: without `step` a minute to a day, as the span is long."""

    route: Name | None = None
    model: Name | None = None
    step_us: Step | None = msgspec.field(default=None, name="step")


class Point(Answer, frozen=True, kw_only=True):
    """A step from `at` on; zeros and nulls where there were no calls."""

    at: Time
    requests: int
    errors: int
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    estimated_cost_usd: float | None


class TimeseriesAnswer(Answer, frozen=True, kw_only=True):
    """Oldest first, without gaps."""

    points: list[Point]


@app.page("/api/v1/analytics/requests/timeseries")
class Timeseries(View):
    """Calls over time."""

    @asks(TimeseriesAsked, TimeseriesAnswer)
    async def get(self, asked: TimeseriesAsked) -> dict[str, Any]:
        start, end = asked.span_us()
        step = asked.step_us or next((step for span, step in _STEPS if end - start <= span), DAY_US)
        if (end - start) // step >= MOST_POINTS:
            raise Problem(400, f"more than {MOST_POINTS:,} points: a longer step, or a shorter span", field="step")
        question = analytics.over_time(current().pool, asked.tenant_id, asked.route, asked.model, start, end, step)
        return {"points": await answered(question)}


class ProviderRow(Answer, frozen=True, kw_only=True):
    """The calls that tell a provider, or with null none."""

    provider: str | None
    requests: int
    errors: int
    error_rate: float
    avg_latency_ms: float
    p95_latency_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    estimated_cost_usd: float | None
    unpriced: int
    share: Annotated[float, Meta(description="Of all calls of the span, 0 to 1")]


class ProvidersAnswer(Answer, frozen=True, kw_only=True):
    """Most calls first."""

    providers: list[ProviderRow]


@app.page("/api/v1/analytics/providers")
class Providers(View):
    """Calls by provider."""

    @asks(DaySpanned, ProvidersAnswer)
    async def get(self, asked: DaySpanned) -> dict[str, Any]:
        return {"providers": await answered(analytics.providers(current().pool, asked.tenant_id, *asked.span_us()))}


class ErrorRow(Answer, frozen=True, kw_only=True):
    """Errors of a class, and the ten routes and models that have the most of them."""

    error_type: str
    count: int
    share: float
    last_seen: Time
    routes: list[str]
    models: list[str]


class ErrorsAnswer(Answer, frozen=True, kw_only=True):
    """Most frequent first. `error_rate` is that of all calls of the span, null when there were none."""

    errors: list[ErrorRow]
    total: int
    error_rate: float | None


@app.page("/api/v1/analytics/errors")
class Errors(View):
    """Errors by class."""

    @asks(DaySpanned, ErrorsAnswer)
    async def get(self, asked: DaySpanned) -> dict[str, Any]:
        pool, span = current().pool, asked.span_us()
        rows = await answered(analytics.errors_by_type(pool, asked.tenant_id, *span))
        rate = (await answered(analytics.summary(pool, asked.tenant_id, *span)))["error_rate"]
        return {"errors": rows, "total": sum(row["count"] for row in rows), "error_rate": rate}
