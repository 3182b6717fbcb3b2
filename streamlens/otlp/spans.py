"""Spans as calls of models, by the tables of `streamlens.dialects`."""

from collections.abc import Iterator
from typing import Any

import msgspec

from streamlens.dialects import FIELDS, INFERENCE, Reader, error_type_of
from streamlens.errors import BadEvent
from streamlens.mappings import DEFAULTS, digest
from streamlens.otlp.values import Resource, Value, attributes_of, checked_hex, hex_of

UNKNOWN_MODEL = "unknown"
_ERROR = (2, "STATUS_CODE_ERROR")
_NEVER_NS = 1 << 63
"""JSON's numbers have no end."""
_MAX_ID = 128
_MAX_ERROR = 1024

_sources: dict[str, list[tuple[str, int, Reader]]] = {}
for _field, _names in FIELDS.items():
    for _preference, (_name, _read) in enumerate(_names):
        _sources.setdefault(_name, []).append((_field, _preference, _read))
_known = frozenset(_sources) | frozenset(INFERENCE)
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
    said = attributes_of(span.attributes, _known)
    if not _is_inference(said):
        return None
    found: dict[str, Any] = {}
    ranks: dict[str, int] = {}
    for name, value in said.items():
        for field, preference, read in _sources.get(name, ()):
            if preference < ranks.get(field, 1_000) and (meant := read(value)) is not None:
                ranks[field], found[field] = preference, meant
    start_ns, end_ns = span.start_time_unix_nano or 0, span.end_time_unix_nano or 0
    if not start_ns or not end_ns:
        raise BadEvent("startTimeUnixNano" if not start_ns else "endTimeUnixNano", "required")
    agent, user = found.pop("agent", None), found.pop("user_id", None)
    first_token_us = found.pop("first_token_at_us", None)
    if first_token_us is not None and "ttft_ms" not in found and first_token_us * 1000 >= start_ns:
        found["ttft_ms"] = (first_token_us * 1000 - start_ns) / 1_000_000
    if user is not None:
        found["user_id_hash"] = digest(user.encode())
    if resource.region is not None:
        found.setdefault("region", resource.region)
    _tell_error(found, span)
    request_id = found.get("request_id")
    if request_id is None:
        found["request_id"] = f"{checked_hex('traceId', span.trace_id, 16)}:{checked_hex('spanId', span.span_id, 8)}"
    elif isinstance(request_id, str) and len(request_id) > _MAX_ID:
        found["request_id"] = digest(request_id.encode())
    found.setdefault("tenant_id", resource.tenant_id)
    found.setdefault("model", UNKNOWN_MODEL)
    found["route"] = found.get("route") or resource.route or agent or resource.service or DEFAULTS["route"]
    found["timestamp"] = min(start_ns, _NEVER_NS) // 1_000_000
    found["latency_ms"] = min(max(0, end_ns - start_ns), _NEVER_NS) / 1_000_000
    return _encode(found)


def refusal(span: Any, error: BadEvent) -> str:
    """A sentence for the sender of a bad span: which one, and which attribute is wrong."""
    said = attributes_of(span.attributes, _known)
    field = next((name for name, _ in FIELDS.get(error.field, ()) if name in said), error.field)
    name = f' "{span.name[:64]}"' if span.name else ""
    return f"span {hex_of(span.trace_id)[:32]}:{hex_of(span.span_id)[:16]}{name}: {field}: {error.detail}"


def _is_inference(said: dict[str, Value]) -> bool:
    marked = False
    for name, meaning in INFERENCE.items():
        if name in said:
            if str(said[name]) not in meaning:
                return False
            marked = True
    return marked


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
