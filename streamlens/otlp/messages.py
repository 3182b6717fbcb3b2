"""The three signals of OTLP, and their requests and answers as bytes: protobuf, or its JSON form."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace

from streamlens.errors import BadEvent
from streamlens.otlp import points, records, shape, spans
from streamlens.otlp.density import check_json, check_protobuf
from streamlens.otlp.wire import TracesRequest

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

Read = Callable[[Any, str | None, int], Iterator[tuple[Any, bytes | BadEvent | None]]]


class Signal(msgspec.Struct, frozen=True):
    """Spans, log records or data points. `kind` is that of the events that they become, `counted_as` the one in
    metrics; `groups` and `rejected` are names in the messages."""

    noun: str
    kind: str
    counted_as: str
    path: str
    request: Callable[[], Any]
    response: Callable[[], Any]
    groups: str
    rejected: str
    read: Read
    """The items of a request, which takes the tenant of the key with which it came, and the time of receipt."""
    refusal: Callable[[Any, BadEvent], str]


TRACES = Signal(
    *("spans", "call", "span", "/v1/traces"),
    *(TracesRequest, trace.ExportTraceServiceResponse),
    *("resource_spans", "rejected_spans"),
    *(spans.events, spans.refusal),
)
LOGS = Signal(
    *("log records", "log", "log", "/v1/logs"),
    *(logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
    *("resource_logs", "rejected_log_records"),
    *(records.events, records.refusal),
)
METRICS = Signal(
    *("metrics", "metric", "metric", "/v1/metrics"),
    *(metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
    *("resource_metrics", "rejected_data_points"),
    *(points.events, points.refusal),
)
SIGNALS = (TRACES, LOGS, METRICS)


def decode(signal: Signal, content_type: str, body: bytes) -> Any:
    """The request that `body` is, as `PROTOBUF` or `JSON`. Raises `BadEvent` when it is none, or another signal's."""
    if content_type == JSON:
        return _decode_json(signal, body)
    check_protobuf(body)
    request = signal.request()
    try:
        request.ParseFromString(body)
    except DecodeError:
        raise BadEvent("", f"not a protobuf {request.DESCRIPTOR.name}") from None
    if signal is TRACES and _lacks_ids(request):
        raise BadEvent("", "no span has a trace id of 16 bytes: this may be log records or metrics")
    return request


def answer(signal: Signal, content_type: str, rejected: int, message: str) -> bytes:
    """The answer to a request that was taken, but for `rejected` items, of which `message` tells."""
    if content_type == JSON:
        if not rejected:
            return b"{}"
        return orjson.dumps({"partialSuccess": {_camel(signal.rejected): str(rejected), "errorMessage": message}})
    response = signal.response()
    if rejected:
        setattr(response.partial_success, signal.rejected, rejected)
        response.partial_success.error_message = message
    return response.SerializeToString()  # type: ignore[no-any-return]


def status(content_type: str, code: int, message: str) -> bytes:
    """A `google.rpc.Status`. The message has three fields, of which these are two: not worth its package."""
    if content_type == JSON:
        return orjson.dumps({"code": code, "message": message})
    text = message.encode()[:_MAX_STATUS].decode(errors="ignore").encode()
    return b"\x08%c\x12%c%c%b" % (code, 0x80 | len(text) & 0x7F, len(text) >> 7, text)


_MAX_STATUS = 4096


def _decode_json(signal: Signal, body: bytes) -> shape.Request:
    check_json(body)
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the texts that it skips
        request = shape.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEvent("", f"not an OTLP request as JSON: {error}") from None
    except RecursionError:
        raise BadEvent("", "nested too deeply") from None
    if getattr(request, signal.groups) is None:
        for other in SIGNALS:
            if getattr(request, other.groups) is not None:
                raise BadEvent("", f"these are {other.noun}; they go to {other.path}")
    return request


def _lacks_ids(request: Any) -> bool:
    """Whether there are spans, and none has a trace id: protobuf takes log records for such spans."""
    sizes = (
        len(span.trace_id) for group in request.resource_spans for each in group.scope_spans for span in each.spans
    )
    return next(sizes, 16) != 16 and 16 not in sizes


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))
