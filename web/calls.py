"""`GET /v1/calls`, `/v1/calls/{request_id}`: calls that are kept whole."""

from typing import Annotated, Any, Literal

import msgspec
from faust.web import View
from msgspec import Meta

from streamlens.app import app
from streamlens.fields import MAX_TIME_US
from streamlens.postgres import call_queries
from streamlens.postgres.call_queries import Chosen, Place
from web.asked import PLACE, Asked, Limit, Name, Spanned
from web.contract import Answer, Time, asks
from web.cursor import token
from web.problem import Problem
from web.query import answered
from web.services import current

Why = Literal["error", "slow", "sample"]


class CallsAsked(Spanned, frozen=True, kw_only=True):
    """Which calls."""

    route: Name | None = None
    model: Name | None = None
    kept: Annotated[tuple[Why, ...] | None, Meta(description="For one of these reasons")] = None
    error_type: Name | None = None
    session_id: Name | None = None
    order: Literal["newest", "slowest"] = "newest"
    limit: Limit = 60
    cursor: Annotated[Place, PLACE] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cursor is not None and self.cursor.order != self.order:
            raise Problem(400, "it goes on in another order", field="cursor")
        if self.cursor is not None and self.order != "slowest" and self.cursor.value >= MAX_TIME_US:
            raise Problem(400, "not the `next` of an answer", field="cursor")

    @property
    def chosen(self) -> Chosen:
        fields = msgspec.structs.asdict(self)
        return Chosen(**{name: fields[name] for name in Chosen.__struct_fields__})


class CallRow(Answer, frozen=True, kw_only=True):
    """A call that is kept, as it was counted."""

    tenant_id: str
    request_id: str
    at: Annotated[Time, Meta(description="Of the request")]
    route: str
    model: str
    provider: str | None
    latency_ms: float
    ttft_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    estimated_cost_usd: Annotated[float | None, Meta(description="null when its price is not known")]
    error_type: Annotated[str | None, Meta(description="Its class; null when it is no error")]
    error_type_raw: Annotated[str | None, Meta(description="As it was sent, where it is none of the classes")]
    error: str | None
    finish_reason: str | None
    user_id_hash: Annotated[str | None, Meta(description="A keyed hash of tenant and `user_id_hash`")]
    session_id: str | None
    experiment: str | None
    variant: str | None
    prompt_version: str | None
    model_version: str | None
    region: str | None
    kept: Annotated[list[Why], Meta(description="Why")]


class CallsAnswer(Answer, frozen=True, kw_only=True):
    """In the order that was asked for."""

    calls: list[CallRow]
    count: int
    next: str | None


@app.page("/v1/calls")
class Calls(View):
    """Recent calls: the first errors of each class, the slowest, and a sample of each tenant, minute and partition."""

    @asks(CallsAsked, CallsAnswer)
    async def get(self, asked: CallsAsked) -> dict[str, Any]:
        question = call_queries.kept_calls(current().pool, asked.chosen, asked.limit, asked.order, asked.cursor)
        rows, last = await answered(question)
        return {"calls": rows, "count": len(rows), "next": None if last is None else token(last)}


class CallAsked(Asked, frozen=True, kw_only=True):
    """Which call."""

    request_id: Name


class Client(Answer, frozen=True, kw_only=True):
    """What the application runs in."""

    app: str | None
    os: str | None


class WholeCall(CallRow, frozen=True, kw_only=True):
    """A call with all that is kept of it. Prompt and response are null unless content is captured."""

    client: Client | None
    stream: bool | None
    metadata: dict[str, str | int | float | bool | None] | None
    prompt: str | None
    response: str | None


class CallAnswer(Answer, frozen=True, kw_only=True):
    """One, unless an id was used by several tenants, or again."""

    calls: list[WholeCall]


@app.page("/v1/calls/{request_id}")
class Call(View):
    """A call that is kept, by its id."""

    @asks(CallAsked, CallAnswer)
    async def get(self, asked: CallAsked) -> dict[str, Any]:
        found = await answered(call_queries.kept_call(current().pool, asked.tenant_id, asked.request_id))
        if not found:
            raise Problem(404, "this call is not kept")
        return {"calls": found}
