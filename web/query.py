"""`GET /v1/…`: the rows, the ledger and what exists, as Postgres has them."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

import asyncpg
import msgspec
import structlog
from faust.web import View
from msgspec import Meta

from streamlens.app import app
from streamlens.errors import BadSetting, Unavailable
from streamlens.facets import FACETS
from streamlens.postgres import queries
from streamlens.postgres.queries import MINUTE_US, SERIES, LedgerPlace, columns_of
from streamlens.postgres.windows import Place
from web.asked import PLACE, STEPS_US, Asked, KeysTenant, Limit, Name, Spanned, named, reads
from web.contract import Answer, Time, asks
from web.cursor import after, follows
from web.metricsrow import MetricsRow
from web.otlp import ExportedMetrics
from web.parameters import Parameters
from web.problem import Problem
from web.services import current

ANSWER_S = 8.0
"""Longest time a question may take; above the timeout of a statement, so that the server gives up first."""

WHOLE_US = 36_525 * 86_400_000_000
"""The step that no time leaves: all windows of a question are one."""

_T = TypeVar("_T")
log = structlog.get_logger()


def _read_groups(asked: Parameters, field: str) -> tuple[str, ...]:
    facet = asked.name(field)
    return (facet,) if facet in FACETS else asked.some_of(field, SERIES)


_GROUPED = reads(
    _read_groups,
    "`route`, `model`, both or `none`; or a facet alone",
    type="array",
    items={"type": "string", "enum": [*SERIES, "none", *FACETS]},
)

_STEP = named({**STEPS_US, "all": WHOLE_US}, "Of windows; `all` (with `from`) is one row of the whole time")


class MetricsAsked(Spanned, frozen=True, kw_only=True):
    """Which rows, and what they are summed up over."""

    route: Name | None = None
    model: Name | None = None
    step_us: Annotated[int, _STEP] = msgspec.field(default=MINUTE_US, name="step")
    group_by: Annotated[tuple[str, ...], _GROUPED] = SERIES
    limit: Limit = 60
    cursor: Annotated[Place, PLACE] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        follows(self.cursor, self.step_us, self.columns, facet=self.facet)

    @property
    def columns(self) -> tuple[str, ...]:
        """What orders the rows of one time."""
        return columns_of(self.group_by, self.facet)

    @property
    def facet(self) -> str | None:
        """The facet by which is grouped."""
        return self.group_by[0] if len(self.group_by) == 1 and self.group_by[0] in FACETS else None


class MetricsAnswer(Answer, frozen=True, kw_only=True):
    """Newest first."""

    metrics: list[MetricsRow]
    count: int
    next: str | None


@app.page("/v1/metrics")
class Metrics(ExportedMetrics):
    """Rows per window, newest first; longer steps and coarser groups merge their histograms."""

    @asks(MetricsAsked, MetricsAnswer)
    async def get(self, asked: MetricsAsked) -> dict[str, Any]:
        facet = asked.facet
        if facet and (asked.route or asked.model):
            at_fault = "route" if asked.route else "model"
            raise Problem(400, "facets are counted over all routes and models", field=at_fault)
        whole = asked.step_us == WHOLE_US
        if whole and asked.from_us is None:
            raise Problem(400, "required with the step `all`", field="from")
        rows = await answered(
            queries.metrics(
                current().pool,
                tenant_id=asked.tenant_id,
                route=asked.route,
                model=asked.model,
                from_us=asked.from_us,
                to_us=asked.to_us,
                step_us=asked.step_us,
                group_by=SERIES if facet else asked.group_by,
                facet=facet,
                limit=asked.limit,
                after=asked.cursor,
            )
        )
        next = after(rows, asked.limit, lambda row: Place.of(row, asked.step_us, asked.columns))
        if whole:
            until_us = current().clock_us() if asked.to_us is None else asked.to_us
            time = {"window_start": queries.moment(asked.from_us), "window_end": queries.moment(until_us)}
            rows = [row | queries.plain(time) for row in rows]
        return {"metrics": rows, "count": len(rows), "next": next}


class TenantsAsked(Asked, frozen=True, kw_only=True):
    """Nothing: a tenant's key sees its own, others see all."""

    tenant_id: KeysTenant | None = None


class TenantRow(Answer, frozen=True, kw_only=True):
    """`last_window` is the start of its newest."""

    tenant_id: str
    last_window: Time


class TenantsAnswer(Answer, frozen=True, kw_only=True):
    """By name."""

    tenants: list[TenantRow]


@app.page("/v1/tenants")
class Tenants(View):
    """The tenants that have rows."""

    @asks(TenantsAsked, TenantsAnswer)
    async def get(self, asked: TenantsAsked) -> dict[str, Any]:
        return {"tenants": await answered(queries.tenants(current().pool, asked.tenant_id))}


class SeriesRow(Answer, frozen=True, kw_only=True):
    """A route and a model of a tenant; `last_window` is the start of its newest."""

    tenant_id: str
    route: str
    model: str
    last_window: Time


class SeriesAnswer(Answer, frozen=True, kw_only=True):
    """By tenant, route and model."""

    series: list[SeriesRow]


@app.page("/v1/series")
class Series(View):
    """The routes and models of a tenant, or of all."""

    @asks(Asked, SeriesAnswer)
    async def get(self, asked: Asked) -> dict[str, Any]:
        return {"series": await answered(_series(current().pool, asked.tenant_id))}


class LedgerAsked(Spanned, frozen=True, kw_only=True):
    """Which minutes."""

    limit: Limit = 10_000
    cursor: Annotated[LedgerPlace, PLACE] | None = None


class LedgerRow(Answer, frozen=True, kw_only=True):
    """The events of a tenant and minute; `""` are those of which no tenant is known."""

    tenant_id: str
    minute: Time
    received: int
    aggregated: int
    pending: int
    orphaned: int
    duplicate: int
    late: int
    rejected: int
    closes: Annotated[bool, Meta(description="`received` is the sum of the others")]


class LedgerAnswer(Answer, frozen=True, kw_only=True):
    """Newest first."""

    ledger: list[LedgerRow]
    next: str | None


@app.page("/v1/ledger")
class Ledger(View):
    """What became of every event, per tenant and minute."""

    @asks(LedgerAsked, LedgerAnswer)
    async def get(self, asked: LedgerAsked) -> dict[str, Any]:
        place = asked.cursor
        question = queries.ledger(current().pool, asked.tenant_id, asked.from_us, asked.to_us, asked.limit, place)
        rows = await answered(question)
        return {"ledger": rows, "next": after(rows, asked.limit, LedgerPlace.of)}


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
