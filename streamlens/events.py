"""The events that applications send, as types, and the one validation that HTTP and the worker share.

Field meanings and limits are the public contract (`docs/api.md`); unknown fields are ignored.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from streamlens.errors import BadEvent
from streamlens.fields import MAX_TIME_US, MIN_TIME_US, Count, Experiment, Id, Millis, Name, Scalars, Text, Time, Usd
from streamlens.observations import AppLog, Evaluation, SystemMetric, check_scalars

MAX_EVENT_BYTES = 512 * 1024
MAX_METADATA_ENTRIES = 32


class Client(msgspec.Struct, frozen=True, gc=False):
    app: Text | None = None
    os: Text | None = None


class _RequestFields(msgspec.Struct, frozen=True, kw_only=True):
    request_id: Id
    tenant_id: Name
    route: Name
    model: Name
    timestamp: Time
    prompt_tokens: Count | None = None
    provider: Name | None = None
    user_id_hash: Text | None = None
    session_id: Text | None = None
    stream: bool | None = None
    metadata: Scalars | None = None
    experiment: Experiment | None = None
    model_version: Text | None = None
    prompt_version: Text | None = None
    region: Text | None = None
    client: Client | None = None
    sender: Text | None = None
    prompt: Any = None


class Request(_RequestFields, frozen=True, kw_only=True, gc=False):
    """An application has sent a request to a model. `timestamp` is its event time."""


class Response(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The model has answered, or failed. With `tenant_id` it joins that tenant's request only."""

    request_id: Id
    timestamp: Time
    tenant_id: Name | None = None
    model: Name | None = None
    latency_ms: Millis | None = None
    ttft_ms: Millis | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    total_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    finish_reason: Text | None = None
    error: str | None = None
    error_type: Text | None = None
    cost_usd: Usd | None = None
    sender: Text | None = None
    response: Any = None


class Call(_RequestFields, frozen=True, kw_only=True, gc=False):
    """A request and its response in one; `timestamp` is the request's, `latency_ms` is required."""

    latency_ms: Millis
    ttft_ms: Millis | None = None
    completion_tokens: Count | None = None
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    total_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    finish_reason: Text | None = None
    error: str | None = None
    error_type: Text | None = None
    cost_usd: Usd | None = None
    response: Any = None


KINDS: dict[str, type[msgspec.Struct]] = {
    "request": Request,
    "response": Response,
    "call": Call,
    "evaluation": Evaluation,
    "log": AppLog,
    "metric": SystemMetric,
}
Event = Request | Response | Call


class TypedRequest(Request, frozen=True, kw_only=True, gc=False, tag_field="type", tag="request"):
    """A request that says that it is one."""


class TypedResponse(Response, frozen=True, kw_only=True, gc=False, tag_field="type", tag="response"):
    """A response that says that it is one."""


class TypedCall(Call, frozen=True, kw_only=True, gc=False, tag_field="type", tag="call"):
    """A call that says that it is one."""


class _Typed(msgspec.Struct, frozen=True, gc=False):
    type: Literal["request", "response", "call"]


_TYPES: dict[type, str] = {TypedRequest: "request", TypedResponse: "response", TypedCall: "call"}
_decode_type = msgspec.json.Decoder(_Typed).decode
_BACKSLASH = 0x5C  # a byte is found in a tenth of the time that a string of bytes takes
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_AT = re.compile(r"(?s)(.*) - at `\$\.?([^`]*)`$")
_NO_TIME = "not between the years 2000 and 9999; a number must be epoch milliseconds"
_MISSING = re.compile(r"missing required field `(\w+)`")


def decoder(kind: str) -> Callable[[bytes], Any]:
    """What parses and validates events as the type in `KINDS` of a kind; it raises `BadEvent` as `decode` does."""
    return _decode[kind]


def decode(kind: str, raw: bytes) -> Any:
    """Parse and validate one event as the type of its kind. Raises `BadEvent` with the field at fault."""
    return _decode[kind](raw)


def decode_typed(raw: bytes) -> tuple[str, Event]:
    """The same for one of the events of a body of many: its `type`, which is a key of `KINDS`, and the event."""
    event = _decode_typed(raw)
    return _TYPES[type(event)], event


def parser(types: Any, *, is_event: bool = False) -> Callable[[bytes], Any]:
    """What makes one of `types` of JSON whose text is sound. It raises `BadEvent` with the field at fault.

    Each event goes through it twice, so it is one function, not several.
    """
    parse = msgspec.json.Decoder(types).decode

    def parsed(raw: bytes) -> Any:
        try:
            if not raw.isascii():
                raw.decode()  # msgspec does not look into the strings of fields that it skips
            found = parse(raw)
        except Exception as error:
            raise _refusal(error, raw) from None
        if _BACKSLASH in raw and b"\\u0000" in raw:
            _refuse_nul(found)
        if is_event:
            if type(found.timestamp) is not int and not MIN_TIME_US <= time_us(found.timestamp) < MAX_TIME_US:
                raise BadEvent("timestamp", _NO_TIME)
            if type(found) in _WITH_METADATA and found.metadata is not None:
                check_scalars("metadata", found.metadata, MAX_METADATA_ENTRIES)
        return found

    return parsed


def kind_of(raw: bytes) -> str:
    """The `type` of one of many events: request, response or call. Raises `BadEvent`; the rest is not validated."""
    try:
        if not raw.isascii():
            raw.decode()
        return _decode_type(raw).type
    except Exception as error:
        raise _refusal(error, raw) from None


def time_us(time: datetime | int) -> int:
    """Epoch microseconds of a time as events carry it (RFC 3339, or integer epoch milliseconds)."""
    if isinstance(time, int):
        return time * 1000
    return (time - _EPOCH) // _MICROSECOND


ERROR_CLASSES = frozenset(
    ("timeout", "rate_limit", "server_error", "client_error", "content_filter", "cancelled", "model_error", "other")
)


def error_class(error: str | None, error_type: str | None, finish_reason: str | None) -> str | None:
    """The class of a failed call, None for a good one; types outside of `ERROR_CLASSES` count as "other"."""
    if error_type:
        return error_type if error_type in ERROR_CLASSES else "other"
    if error or finish_reason == "error":
        return "other"
    return None


def _refusal(error: Exception, raw: bytes) -> Exception:
    """What to raise instead of what the parser raised."""
    if isinstance(error, msgspec.ValidationError):
        return _bad(str(error))
    if isinstance(error, msgspec.DecodeError):
        return BadEvent("", str(error) if raw.strip() else "empty")
    if isinstance(error, UnicodeDecodeError):
        return BadEvent("", "not valid UTF-8")
    if isinstance(error, RecursionError):
        return BadEvent("", "nested too deeply")
    return error


def _bad(message: str) -> BadEvent:
    if missing := _MISSING.search(message):
        path = _AT.match(message)
        parent = f"{path[2]}." if path and path[2] else ""
        return BadEvent(parent + missing[1], "required")
    if path := _AT.match(message):
        field = path[2].removesuffix("[...]")
        return BadEvent(field, _NO_TIME if field == "timestamp" and "`int`" in path[1] else path[1])
    return BadEvent("", message)


def _refuse_nul(event: msgspec.Struct) -> None:
    """PostgreSQL takes no NUL in a text. The texts that never get there may have one."""
    for name in event.__struct_fields__:
        if name not in ("prompt", "response", "error") and _has_nul(msgspec.to_builtins(getattr(event, name))):
            raise BadEvent(name, "contains a NUL character")


def _has_nul(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(entry) for key, entry in value.items())
    return isinstance(value, str) and "\x00" in value


_WITH_METADATA = frozenset((Request, Call, TypedRequest, TypedCall))  # `isinstance` takes long to say no of a struct
_decode = {kind: parser(type_, is_event=True) for kind, type_ in KINDS.items()}
_decode_typed = parser(TypedRequest | TypedResponse | TypedCall, is_event=True)
