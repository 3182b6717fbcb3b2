"""What applications send, by kind, and what they are answered: the bodies that the routes of events declare."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from streamlens.events import KINDS, TypedCall, TypedRequest, TypedResponse
from streamlens.fields import Name, Time
from streamlens.mappings import SOURCES, Number
from streamlens.observations import AppLog, Evaluation, SystemMetric
from web.contract import JSON, Answer, Body

NDJSON = "application/x-ndjson"
NOW = "2026-11-22T09:44:35Z"
"""In examples: the time when they are sent."""


class Accepted(Answer, frozen=True, kw_only=True):
    """It is durable."""

    status: Literal["accepted"]


class BadItem(Answer, frozen=True, kw_only=True):
    """An event that was not taken; `index` counts from 0."""

    index: int
    field: str
    detail: str


class AcceptedMany(Answer, frozen=True, kw_only=True):
    """How many are durable, and what is wrong with the others: the first 100 are named."""

    status: Literal["accepted"]
    accepted: int
    rejected: int
    errors: list[BadItem]


def _completed(kind: type[msgspec.Struct]) -> Any:
    """An observation as it may be sent: what it lacks is put in (`streamlens.mappings.completed`)."""
    lacking = [
        ("tenant_id", Name | None, None),
        ("timestamp", Time | None, None),
        ("project_id", Name | Number | None, None),
    ]
    return msgspec.defstruct(
        f"Sent{kind.__name__}", lacking, bases=(kind,), namespace={"__doc__": kind.__doc__}, frozen=True, kw_only=True
    )


_SENT: dict[str, Any] = {
    **KINDS,
    **SOURCES,
    "evaluation": _completed(Evaluation),
    "log": _completed(AppLog),
    "metric": _completed(SystemMetric),
    "typed": TypedRequest | TypedResponse | TypedCall,
}
_REQUEST = {"request_id": "q-1", "tenant_id": "acme", "route": "chat", "model": "gpt-4o-mini", "timestamp": NOW}
_RESPONSE = {"request_id": "q-1", "timestamp": NOW, "latency_ms": 840, "completion_tokens": 310}
EXAMPLES: dict[str, list[Mapping[str, Any]]] = {
    "request": [_REQUEST | {"prompt_tokens": 1200}],
    "response": [_RESPONSE],
    "call": [_REQUEST | {"request_id": "q-2", "latency_ms": 95, "error_type": "rate_limit"}],
    "typed": [{"type": "request"} | _REQUEST, {"type": "response"} | _RESPONSE],
    "llm_log": [{"project_id": "acme", "model": "gpt-4o", "input_tokens": 9, "output_tokens": 3, "latency_ms": 420}],
    "telemetry": [{"event_id": "e-1", "ts": NOW, "model_id": "gpt-oss-1", "latency_ms": 812, "status": "ok"}],
    "service": [{"timestamp": NOW, "service": "checkout", "endpoint": "/pay", "status_code": 503, "latency_ms": 95}],
    "evaluation": [{"request_id": "q-1", "tenant_id": "acme", "name": "faithfulness", "score": 0.92}],
    "log": [{"level": "warning", "service": "api", "message": "slow", "attributes": {"shard": 3}}],
    "metric": [{"name": "gpu_utilization", "value": 0.93, "tags": {"host": "gpu-7"}}],
}
"""Events of each kind; the typed ones stand for many in a body."""


def one(kind: str) -> Body:
    """The body of a route that takes one event."""
    return Body(event=_SENT[kind], examples=EXAMPLES[kind])


def many(kind: str) -> Body:
    """The body of a route that takes an event, an array of them, or one a line."""
    return Body(event=_SENT[kind], many=True, kinds=(JSON, NDJSON), examples=EXAMPLES[kind])
