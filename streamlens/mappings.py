"""LLM logs, telemetry events and service events: finished calls in the words of others, and how each becomes ours.

A field that a call has too keeps its name; `NAMES` has those that are called otherwise, the tables below it and
`call_of` the few rules that are more than a name. What is in none of them is dropped.
"""

import hashlib
import secrets
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from streamlens.events import ERROR_CLASSES, Call, Client, parser
from streamlens.fields import Count, Experiment, Id, Millis, Name, Scalars, Text, Time, Usd

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Status = Annotated[int, Meta(ge=100, le=599)]
_NAMELESS = ("log", "metric")


class _Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What all three kinds may have, with the names that it has in a call. `user_id` is hashed."""

    latency_ms: Millis
    tenant_id: Name | None = None
    request_id: Id | None = None
    session_id: Text | None = None
    user_id: Text | Number | None = None
    user_id_hash: Text | None = None
    error: str | None = None
    error_type: Text | None = None
    metadata: Scalars | None = None
    region: Text | None = None
    sender: Text | None = None


class _Answered(_Finished, frozen=True, kw_only=True):
    """What a call of a model may have besides. `status`: an HTTP status, or a word that says how it ended."""

    route: Name | None = None
    provider: Name | None = None
    status: _Status | Text | None = None
    stream: bool | None = None
    ttft_ms: Millis | None = None
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    finish_reason: Text | None = None
    experiment: Experiment | None = None
    model_version: Text | None = None
    prompt_version: Text | None = None
    client: Client | None = None
    prompt: Raw | UnsetType = UNSET
    response: Raw | UnsetType = UNSET


class LlmLog(_Answered, frozen=True, kw_only=True, gc=False):
    """A call of a model, as its application logs it; a project is a tenant."""

    model: Name
    timestamp: Time | None = None
    project_id: Name | Number | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cost: Usd | None = None


class TelemetryEvent(_Answered, frozen=True, kw_only=True, gc=False):
    """A call of a model, as an application's telemetry tells of it."""

    ts: Time
    model_id: Name
    event_id: Id | None = None
    tokens_in: Count | None = None
    tokens_out: Count | None = None


class ServiceEvent(_Finished, frozen=True, kw_only=True, gc=False):
    """A request that a service has answered, with or without a model behind it."""

    service: Name
    status_code: _Status
    timestamp: Time | None = None
    endpoint: Text | None = None
    model: Name | None = None


SOURCES: dict[str, type[_Finished]] = {"llm_log": LlmLog, "telemetry": TelemetryEvent, "service": ServiceEvent}
"""The types by the kinds that they have in metrics."""

NAMES: dict[str, dict[str, str]] = {
    "llm_log": {
        "tenant_id": "project_id",
        "prompt_tokens": "input_tokens",
        "completion_tokens": "output_tokens",
        "cost_usd": "cost",
    },
    "telemetry": {
        "request_id": "event_id",
        "timestamp": "ts",
        "model": "model_id",
        "prompt_tokens": "tokens_in",
        "completion_tokens": "tokens_out",
    },
    "service": {
        "route": "service",
    },
}
"""Fields of a call, and what a kind calls them. Where an event has both names, that of the call wins."""

DEFAULT_TENANT = "default"
DEFAULTS = {"route": "default", "model": "none"}
"""What a call has that nobody has named."""

GOOD_STATUS = frozenset(("", "ok", "success", "succeeded", "completed"))
STATUS_CLASSES = {
    **{name: name for name in ERROR_CLASSES},
    "timed_out": "timeout",
    "rate_limited": "rate_limit",
    "canceled": "cancelled",
}
"""Classes of error by the word for them; any other word that is not in `GOOD_STATUS` is an error of class other."""

HTTP_CLASSES = {408: "timeout", 429: "rate_limit", 504: "timeout"}
"""Classes of error by HTTP status; all others from 400 on are `client_error` or `server_error`."""


def call_of(kind: str, raw: bytes, received_us: int, tenant_id: str = DEFAULT_TENANT) -> bytes:
    """The call, as JSON, that an event of a kind of `SOURCES` stands for; of `tenant_id` and the time of receipt, if it
    does not say. Raises `BadEvent` with the field at fault."""
    source = _parse[kind](raw)
    call: dict[str, object] = {}
    for name, field in _fields[kind]:
        value = getattr(source, field)
        if value is not None and value is not UNSET and name not in call:
            call[name] = value
    if not call.get("error_type") and (error_type := _error_type(source)):
        call["error_type"] = error_type
    if "user_id_hash" not in call and source.user_id not in (None, ""):
        call["user_id_hash"] = digest(str(source.user_id).encode())
    if kind == "service":
        call["metadata"] = _endpoint(source) | (source.metadata or {})
    call["tenant_id"] = str(call.get("tenant_id", tenant_id))
    if "request_id" not in call:
        call["request_id"] = digest(raw) if "timestamp" in call else secrets.token_hex(16)
    call.setdefault("timestamp", received_us // 1000)
    return _encode(DEFAULTS | call)


def completed(raw: bytes, received_us: int, tenant_id: str = DEFAULT_TENANT) -> bytes:
    """An observation with what it lacks: its project or else `tenant_id` as the tenant, and the time of receipt."""
    given = _parse_given(raw)
    lacking: dict[str, object] = {}
    if given.tenant_id is None:
        lacking["tenant_id"] = tenant_id if given.project_id is None else str(given.project_id)
    if given.timestamp is None:
        lacking["timestamp"] = received_us // 1000
    return with_first(_encode(lacking), raw) if lacking else raw


def with_first(members: bytes, raw: bytes) -> bytes:
    """The JSON object `raw` with the members of another one, which is not empty, put first."""
    rest = raw.lstrip()[1:]
    return members[:-1] + (b"" if rest.lstrip()[:1] == b"}" else b",") + rest


def record_key(kind: str, event: Any, raw: bytes) -> bytes:
    """The key of an event in its topic: its id, or a hash of its bytes for the kinds whose events have none."""
    return (digest(raw) if kind in _NAMELESS else event.request_id).encode()


def digest(raw: bytes) -> str:
    """The BLAKE2b-128 of `raw`, as 32 hex digits."""
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


class _Given(msgspec.Struct, frozen=True, gc=False):
    tenant_id: object = None
    timestamp: object = None
    project_id: Name | Number | None = None


_parse = {kind: parser(source) for kind, source in SOURCES.items()}
_parse_given = parser(_Given)
_encode = msgspec.json.Encoder().encode
_fields = {
    kind: [(name, name) for name in Call.__struct_fields__ if name in source.__struct_fields__] + [*NAMES[kind].items()]
    for kind, source in SOURCES.items()
}


def _error_type(source: Any) -> str | None:
    status = source.status_code if isinstance(source, ServiceEvent) else source.status
    if isinstance(status, str) and status.isdecimal() and len(status) == 3:
        status = int(status)
    if status is None:
        return None
    if isinstance(status, int):
        if status < 400:
            return None
        return HTTP_CLASSES.get(status, "client_error" if status < 500 else "server_error")
    word = status.strip().lower()
    return None if word in GOOD_STATUS else STATUS_CLASSES.get(word, "other")


def _endpoint(event: ServiceEvent) -> dict[str, str | int | float | bool | None]:
    found: dict[str, str | int | float | bool | None] = {"status_code": event.status_code}
    if event.endpoint is not None:
        found["endpoint"] = event.endpoint
    return found
