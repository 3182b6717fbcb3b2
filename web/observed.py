"""`GET /v1/evaluations`, `/v1/tallies`, `/api/v1/analytics/logs/recent`: what applications told besides their calls."""

from typing import Annotated, Any, Literal, get_args

import msgspec
from faust.web import View
from msgspec import UNSET, Meta, UnsetType

from streamlens.app import app
from streamlens.observations import LEVELS
from streamlens.postgres import observed_queries
from streamlens.postgres.observed_queries import LinePlace
from streamlens.postgres.queries import MINUTE_US
from streamlens.postgres.windows import Place
from web.asked import PLACE, Asked, Limit, Name, Spanned, Step, some_of
from web.contract import Answer, Time, asks
from web.cursor import after, follows, token
from web.intake import EvaluationEvents
from web.query import answered
from web.services import current

Kind = Literal["log", "metric", "warning"]


class EvaluationsAsked(Spanned, frozen=True, kw_only=True):
    """Which evaluations."""

    route: Name | None = None
    model: Name | None = None
    name: Name | None = None
    step_us: Step = msgspec.field(default=MINUTE_US, name="step")
    limit: Limit = 60
    cursor: Annotated[Place, PLACE] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        follows(self.cursor, self.step_us, observed_queries.EVALUATED_BY)


class EvaluationsRow(Answer, frozen=True, kw_only=True):
    """The evaluations of one name in a window. Scores are null where there were only labels."""

    tenant_id: str
    route: str
    model: str
    name: str
    window_start: Time
    window_end: Time
    evaluations: int
    scored: int
    avg_score: float | None
    min_score: float | None
    max_score: float | None
    p5_score: float | None
    p50_score: float | None
    p95_score: float | None
    labels: Annotated[dict[str, int], Meta(description="How often each was given")]
    revision: int
    final: bool


class EvaluationsAnswer(Answer, frozen=True, kw_only=True):
    """Newest first."""

    evaluations: list[EvaluationsRow]
    count: int
    next: str | None


@app.page("/v1/evaluations")
class Evaluations(EvaluationEvents):
    """How good calls were, by series and name of the evaluation."""

    @asks(EvaluationsAsked, EvaluationsAnswer)
    async def get(self, asked: EvaluationsAsked) -> dict[str, Any]:
        chosen = msgspec.structs.asdict(asked)
        place = chosen.pop("cursor")
        rows = await answered(observed_queries.evaluations(current().pool, **chosen, after=place))
        next = after(rows, asked.limit, lambda row: Place.of(row, asked.step_us, observed_queries.EVALUATED_BY))
        return {"evaluations": rows, "count": len(rows), "next": next}


class TalliesAsked(Spanned, frozen=True, kw_only=True):
    """Which counts."""

    kinds: tuple[Kind, ...] = msgspec.field(default=get_args(Kind), name="kind")
    name: Name | None = None
    step_us: Step = msgspec.field(default=MINUTE_US, name="step")
    limit: Limit = 60
    cursor: Annotated[Place, PLACE] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        follows(self.cursor, self.step_us, observed_queries.TALLIED_BY)


class TalliesRow(Answer, frozen=True, kw_only=True):
    """A count of a window; `sum`, `min` and `max` are null but for metrics."""

    tenant_id: str
    kind: Kind
    name: str
    detail: str
    window_start: Time
    window_end: Time
    count: int
    sum: float | None
    min: float | None
    max: float | None


class TalliesAnswer(Answer, frozen=True, kw_only=True):
    """Newest first."""

    tallies: list[TalliesRow]
    count: int
    next: str | None


@app.page("/v1/tallies")
class Tallies(View):
    """Lines of logs, system metrics and warnings, counted."""

    @asks(TalliesAsked, TalliesAnswer)
    async def get(self, asked: TalliesAsked) -> dict[str, Any]:
        chosen = msgspec.structs.asdict(asked)
        place = chosen.pop("cursor")
        rows = await answered(observed_queries.tallies(current().pool, **chosen, after=place))
        next = after(rows, asked.limit, lambda row: Place.of(row, asked.step_us, observed_queries.TALLIED_BY))
        return {"tallies": rows, "count": len(rows), "next": next}


class LogsAsked(Asked, frozen=True, kw_only=True):
    """Which lines."""

    levels: Annotated[tuple[str, ...], some_of(LEVELS)] = msgspec.field(default=LEVELS, name="level")
    service: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: Annotated[LinePlace, PLACE] | None = None


class LogLine(Answer, frozen=True, kw_only=True):
    """A line that was kept, as it was sent."""

    id: str
    tenant_id: str
    timestamp: Time
    level: str
    message: str
    service: str | UnsetType = UNSET
    attributes: dict[str, str | int | float | bool | None] | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    session_id: str | UnsetType = UNSET


class LogsAnswer(Answer, frozen=True, kw_only=True):
    """Newest first."""

    logs: list[LogLine]
    count: int
    next: str | None


@app.page("/api/v1/analytics/logs/recent")
class RecentLogs(View):
    """The newest lines of application logs."""

    @asks(LogsAsked, LogsAnswer)
    async def get(self, asked: LogsAsked) -> dict[str, Any]:
        question = observed_queries.recent_logs(
            current().pool, asked.tenant_id, asked.levels, asked.service, asked.limit, asked.cursor
        )
        rows, last = await answered(question)
        return {"logs": rows, "count": len(rows), "next": None if last is None else token(last)}
