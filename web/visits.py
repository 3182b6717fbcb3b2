"""`GET /v1/retention`, `/v1/funnel`, `/v1/sessions`: who came back, how far they got, and what a session was."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from faust.web import View
from msgspec import Meta

from streamlens.app import app
from streamlens.postgres import call_queries, visit_queries
from streamlens.postgres.call_queries import Chosen
from streamlens.postgres.rows import time_of
from streamlens.postgres.visit_queries import Place
from streamlens.visit import DAY_US, SESSION, USER
from web.asked import PLACE, Asked, Limit, Name, Spanned
from web.calls import CallRow
from web.contract import Answer, Time, asks
from web.cursor import after
from web.problem import Problem
from web.query import answered
from web.services import current

By = Annotated[Literal["model", "route"], Meta(description="Apart for each model or route of the users' first calls")]
MOST_CALLS = 1_000
"""That are shown with a session."""
_FUNNEL_US = 7 * DAY_US


class _OfCohort(Asked, frozen=True, kw_only=True):
    cohort_date: Annotated[date, Meta(description="The users' first day, in UTC")] | None = None
    by: By | None = None

    def __post_init__(self) -> None:
        if self.cohort_date is not None and not 1970 <= self.cohort_date.year < 9999:
            raise Problem(400, "not between the years 1970 and 9998", field="cohort_date")


class RetentionAsked(_OfCohort, frozen=True, kw_only=True):
    """Which users, and how long after their first day. Without `cohort_date` those of the newest `cohorts` dates."""

    cohorts: Annotated[int, Meta(ge=1, le=31)] = 1
    days: Annotated[int, Meta(ge=1, le=31)] = 7


class ReturnDay(Answer, frozen=True, kw_only=True):
    """A later day. `complete`: it is over, and so is the allowed lateness, so it stays as it is."""

    day: int
    date: date
    returned: int
    rate: float | None
    complete: bool


class Cohort(Answer, frozen=True, kw_only=True):
    """The users whose first day is `cohort_date`; with `by` those whose first call was of that value."""

    cohort_date: date
    by: Literal["model", "route"] | None
    value: str | None
    size: int
    days: list[ReturnDay]


class RetentionAnswer(Answer, frozen=True, kw_only=True):
    """The newest date first, and of each the largest group."""

    cohorts: list[Cohort]


@app.page("/v1/retention")
class Retention(View):
    """Who came back: of the users who were new on a date, how many called on the days after it."""

    @asks(RetentionAsked, RetentionAnswer)
    async def get(self, asked: RetentionAsked) -> dict[str, Any]:
        newest, dates = asked.cohort_date, 1
        if newest is None:
            newest, dates = await answered(visit_queries.newest_cohort(current().pool, asked.tenant_id)), asked.cohorts
        if newest is None:
            return {"cohorts": []}
        cohorts: list[dict[str, Any]] = []
        for before in range(dates):
            cohorts += await _cohort(asked.tenant_id, newest - timedelta(days=before), asked.days, asked.by)
        return {"cohorts": cohorts}


class NextDayAsked(_OfCohort, frozen=True, kw_only=True):
    """Which users. Without `cohort_date` those who were new yesterday."""


class NextDayGroup(Answer, frozen=True, kw_only=True):
    """The users of a cohort whose first call was of that value."""

    value: str
    size: int
    returned: int
    rate: float | None


class NextDayAnswer(Answer, frozen=True, kw_only=True):
    """Who came back on the next day; `complete` when that is over, and the allowed lateness too."""

    cohort_date: date
    size: int
    returned: int
    rate: float | None
    complete: bool
    by: list[NextDayGroup] | None


@app.page("/v1/retention/d1")
class NextDay(View):
    """Who came back on the day after their first one."""

    @asks(NextDayAsked, NextDayAnswer)
    async def get(self, asked: NextDayAsked) -> dict[str, Any]:
        cohort_date = asked.cohort_date or time_of(current().clock_us() - DAY_US).date()
        (whole,) = await _cohort(asked.tenant_id, cohort_date, 1, None)
        groups = await _cohort(asked.tenant_id, cohort_date, 1, asked.by) if asked.by else []
        by = [{"value": group["value"], "size": group["size"], **_returned(group)} for group in groups]
        told = {"cohort_date": whole["cohort_date"], "size": whole["size"], **_returned(whole)}
        return {**told, "complete": whole["days"][0]["complete"], "by": by if asked.by else None}


def _returned(cohort: dict[str, Any]) -> dict[str, Any]:
    return {name: cohort["days"][0][name] for name in ("returned", "rate")}


async def _cohort(tenant_id: str | None, cohort_date: date, days: int, by: str | None) -> list[dict[str, Any]]:
    services = current()
    settled_us = services.clock_us() - services.settings.lines.lateness_us
    return await answered(visit_queries.retention(services.pool, tenant_id, cohort_date, days, by, settled_us))


class FunnelAsked(Spanned, frozen=True, kw_only=True):
    """Which routes in which order, and whose calls; without `from` and `to` of the last seven days."""

    steps: Annotated[
        tuple[str, ...],
        Meta(min_length=1, max_length=10, description="Routes, comma separated", examples=[["search", "chat"]]),
    ]
    of: Literal["users", "sessions"] = "users"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(step == later for step, later in zip(self.steps, self.steps[1:], strict=False)):
            raise Problem(400, "a route follows itself", field="steps")


class FunnelStep(Answer, frozen=True, kw_only=True):
    """Who called this route, after those before it. Shares are null where nobody came so far."""

    route: str
    reached: int
    share_of_first: float | None
    share_of_previous: float | None


class FunnelAnswer(Answer, frozen=True, kw_only=True):
    """In the order that was asked for."""

    of: Literal["users", "sessions"]
    steps: list[FunnelStep]


@app.page("/v1/funnel")
class Funnel(View):
    """How many users or sessions called the routes one after the other. Calls of one minute count in either order."""

    @asks(FunnelAsked, FunnelAnswer)
    async def get(self, asked: FunnelAsked) -> dict[str, Any]:
        to_us = current().clock_us() if asked.to_us is None else asked.to_us
        from_us = to_us - _FUNNEL_US if asked.from_us is None else asked.from_us
        kind = USER if asked.of == "users" else SESSION
        question = visit_queries.funnel(current().pool, asked.steps, kind, asked.tenant_id, from_us, to_us)
        return {"of": asked.of, "steps": await answered(question)}


class SessionsAsked(Spanned, frozen=True, kw_only=True):
    """Which sessions, by when they began."""

    user_id: Annotated[Name, Meta(description="`user_id_hash` as it was sent, or as `user` has it")] | None = None
    limit: Limit = 60
    cursor: Annotated[Place, PLACE] | None = None

    @property
    def users(self) -> Sequence[str] | None:
        """The keyed hashes of the user. Without a tenant nobody can tell which one was sent."""
        if self.user_id is None:
            return None
        named = [] if self.tenant_id is None else [current().user_hash.of(self.tenant_id, self.user_id).hex()]
        return [self.user_id, *named]


class SessionRow(Answer, frozen=True, kw_only=True):
    """A session: the calls that had its id."""

    tenant_id: str
    session_id: str
    user: Annotated[str | None, Meta(description="A keyed hash of its user; of several users, the smallest")]
    started_at: Time
    last_at: Annotated[Time, Meta(description="Begin of its last call")]
    calls: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    estimated_cost_usd: Annotated[float | None, Meta(description="null when no call was priced")]
    unpriced: int
    routes: Annotated[list[str], Meta(description="In the order in which it came to them")]


class SessionsAnswer(Answer, frozen=True, kw_only=True):
    """The last one to begin first; a user's, by when it was first there."""

    sessions: list[SessionRow]
    count: int
    next: str | None


@app.page("/v1/sessions")
class Sessions(View):
    """Sessions, and what they used."""

    @asks(SessionsAsked, SessionsAnswer)
    async def get(self, asked: SessionsAsked) -> dict[str, Any]:
        rows = await answered(
            visit_queries.sessions(
                current().pool, asked.tenant_id, asked.users, asked.from_us, asked.to_us, asked.limit, asked.cursor
            )
        )
        found = [visit_queries.session_told(row) for row in rows]
        return {"sessions": found, "count": len(found), "next": after(rows, asked.limit, visit_queries.place_of)}


class SessionAsked(Asked, frozen=True, kw_only=True):
    """Which session."""

    session_id: Name


class SessionAnswer(Answer, frozen=True, kw_only=True):
    """One, unless several tenants have the same id."""

    sessions: list[SessionRow]
    calls: Annotated[list[CallRow], Meta(description=f"The first {MOST_CALLS:,}; `/v1/calls` has the others")]


@app.page("/v1/sessions/{session_id}")
class Session(View):
    """A session by its id, with those of its calls that are kept, the oldest first."""

    @asks(SessionAsked, SessionAnswer)
    async def get(self, asked: SessionAsked) -> dict[str, Any]:
        rows = await answered(visit_queries.session(current().pool, asked.session_id, asked.tenant_id))
        if not rows:
            raise Problem(404, "there is no such session, or it is not kept any more")
        chosen = Chosen(tenant_id=asked.tenant_id, session_id=asked.session_id)
        calls, _ = await answered(call_queries.kept_calls(current().pool, chosen, MOST_CALLS, "oldest"))
        return {"sessions": [visit_queries.session_told(row) for row in rows], "calls": calls}
