"""Spans as calls of models, by the tables of `streamlens.dialects`."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from streamlens.dialects import FIELDS, INFERENCE, KNOWN, Source, error_type_of
from streamlens.errors import BadEvent
from streamlens.mappings import DEFAULTS, digest
from streamlens.otlp.values import Resource, Value, attributes_of, checked_hex, hex_of
from streamlens.otlp.wire import known_attributes_of

UNKNOWN_MODEL = "unknown"
_ERROR = (2, "STATUS_CODE_ERROR")
_NEVER_NS = 1 << 63
"""JSON's numbers have no end."""
_MAX_ID = 128
_MAX_ERROR = 1024

_encode = msgspec.json.Encoder().encode


def events(request: Any, key_tenant: str | None, received_us: int) -> Iterator[tuple[Any, bytes | BadEvent | None]]:
    """Each span of an `ExportTraceServiceRequest`, with the call that it is, as JSON, None if it is none, or why it is
    bad."""
    for group in request.resource_spans or ():
        resource = Resource.of(group.resource, key_tenant)
        for scope in group.scope_spans or ():
            for span in scope.spans or ():
                try:
                    yield span, call_of(span, resource)
                except BadEvent as error:
                    yield span, error


def call_of(span: Any, resource: Resource) -> bytes | None:
    """The call, as JSON, that a span is; None when it is none. It still has to be validated. Raises `BadEvent`."""
    said = _said(span.attributes)
    marks, fields = _plan(tuple(said))
    if not marks:
        return None
    for name, meaning in marks:
        if str(said[name]) not in meaning:
            return None
    found: dict[str, Any] = {"tenant_id": resource.tenant_id, "model": UNKNOWN_MODEL}
    if resource.region is not None:
        found["region"] = resource.region
    for field, sources in fields:
        for name, read in sources:
            if (meant := read(said[name])) is not None:
                found[field] = meant
                break
    start_ns, end_ns = span.start_time_unix_nano or 0, span.end_time_unix_nano or 0
    if not start_ns or not end_ns:
        raise BadEvent("startTimeUnixNano" if not start_ns else "endTimeUnixNano", "required")
    agent, user = found.pop("agent", None), found.pop("user_id", None)
    first_token_us = found.pop("first_token_at_us", None)
    if first_token_us is not None and "ttft_ms" not in found and first_token_us * 1000 >= start_ns:
        found["ttft_ms"] = (first_token_us * 1000 - start_ns) / 1_000_000
    if user is not None:
        found["user_id_hash"] = digest(user.encode())
    _tell_error(found, span)
    request_id = found.get("request_id")
    if request_id is None:
        found["request_id"] = f"{checked_hex('traceId', span.trace_id, 16)}:{checked_hex('spanId', span.span_id, 8)}"
    elif isinstance(request_id, str) and len(request_id) > _MAX_ID:
        found["request_id"] = digest(request_id.encode())
    found["route"] = found.get("route") or resource.route or agent or resource.service or DEFAULTS["route"]
    found["timestamp"] = min(start_ns, _NEVER_NS) // 1_000_000
    found["latency_ms"] = min(max(0, end_ns - start_ns), _NEVER_NS) / 1_000_000
    return _encode(found)


def refusal(span: Any, error: BadEvent) -> str:
    """A sentence for the sender of a bad span: which one, and which attribute is wrong."""
    said = _said(span.attributes) if error.field in FIELDS else {}
    field = next((name for name, _ in FIELDS.get(error.field, ()) if name in said), error.field)
    name = f' "{span.name[:64]}"' if span.name else ""
    return f"span {hex_of(span.trace_id)[:32]}:{hex_of(span.span_id)[:16]}{name}: {field}: {error.detail}"


def _said(attributes: Any) -> dict[str, Value]:
    """The known attributes of a span of either form."""
    if type(attributes) is list or not attributes:
        return attributes_of(attributes, KNOWN)
    return known_attributes_of(attributes)


@lru_cache(1 << 10)
def _plan(names: tuple[str, ...]) -> tuple[list[tuple[str, frozenset[str]]], list[tuple[str, list[Source]]]]:
    """What to look at in a span with attributes of these names: its marks, and the sources of each field. The spans of
    a program have few different sets of names."""
    said = frozenset(names)
    marks = [(name, meaning) for name, meaning in INFERENCE.items() if name in said]
    fields = ((field, [source for source in sources if source[0] in said]) for field, sources in FIELDS.items())
    return marks, [(field, sources) for field, sources in fields if sources]


def _tell_error(found: dict[str, Any], span: Any) -> None:
    """Put the class of an error in, and its text, if there was one."""
    http_status, given = found.pop("http_status", None), found.get("error_type")
    status = span.status
    failed = status is not None and status.code in _ERROR
    if given is None and not failed:
        found.pop("error", None)
        return
    if failed and given in (None, "other", "_OTHER"):
        given = _exception(span) or (str(http_status) if http_status and http_status >= 400 else "other")
    found["error_type"] = error_type_of(given or "other")
    if failed and status.message:
        found["error"] = status.message[:_MAX_ERROR]


def _exception(span: Any) -> str | None:
    """The type of the last exception that was recorded."""
    for event in reversed(span.events or ()):
        if event.name == "exception":
            found = attributes_of(event.attributes, frozenset(("exception.type",))).get("exception.type")
            return str(found)[:256] if found else None
    return None
