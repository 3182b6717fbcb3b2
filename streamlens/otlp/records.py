"""Log records, GenAI events among them, as lines of an application's log."""

from collections.abc import Iterator
from typing import Any

import msgspec

from streamlens.errors import BadEvent
from streamlens.observations import LEVEL_OF, MAX_ATTRIBUTES, MAX_MESSAGE_BYTES
from streamlens.otlp.scalars import bounded
from streamlens.otlp.values import Resource, attributes_of, hex_of, moment, text_of, value_of

_LEVELS = ("DEBUG", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
"""Of severity numbers, four for each: trace, debug, info, warn, error and fatal."""
_SESSION = ("session.id", "gen_ai.conversation.id")
_MAX_ID = 128
_encode = msgspec.json.Encoder().encode


def events(request: Any, key_tenant: str | None, received_us: int) -> Iterator[tuple[Any, bytes | BadEvent | None]]:
    """Each record of an `ExportLogsServiceRequest`, with the line that it is, as JSON, or why it is bad."""
    for group in request.resource_logs or ():
        resource = Resource.of(group.resource, key_tenant)
        for scope in group.scope_logs or ():
            for record in scope.log_records or ():
                try:
                    yield record, line_of(record, resource, received_us)
                except BadEvent as error:
                    yield record, error


def line_of(record: Any, resource: Resource, received_us: int) -> bytes:
    """The line, as JSON, that a record is. It still has to be validated. Raises `BadEvent`."""
    said = attributes_of(record.attributes)
    body = value_of(record.body)
    name = record.event_name or text_of(said.get("event.name"))
    session = next((text_of(said[key])[:256] for key in _SESSION if key in said), "")
    response_id = text_of(said.get("gen_ai.response.id"))
    around = {"event.name": name, "trace_id": hex_of(record.trace_id), "span_id": hex_of(record.span_id)}
    nanos = record.time_unix_nano or record.observed_time_unix_nano or received_us * 1000
    line = {
        "timestamp": moment(nanos),
        "level": _level(record),
        "message": _cut(text_of(body) or name),
        "tenant_id": text_of(said.get("tenant.id", said.get("tenant_id"))) or resource.tenant_id,
        "service": resource.service,
        "request_id": response_id if len(response_id) <= _MAX_ID else "",
        "session_id": session,
        "attributes": bounded({key: value for key, value in around.items() if value} | said, MAX_ATTRIBUTES),
    }
    return _encode({field: value for field, value in line.items() if value or field == "message"})


def refusal(record: Any, error: BadEvent) -> str:
    """A sentence for the sender of a bad record."""
    return f'log record "{text_of(value_of(record.body))[:64]}": {error.field}: {error.detail}'


def _level(record: Any) -> str:
    number, text = record.severity_number or 0, (record.severity_text or "").strip().upper()
    if isinstance(number, int) and 1 <= number <= 24:
        return _LEVELS[(number - 1) // 4]
    return LEVEL_OF.get(text, "INFO")


def _cut(message: str) -> str:
    """What fits; the last character stays whole."""
    if len(message) <= MAX_MESSAGE_BYTES // 4:
        return message
    return message.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
