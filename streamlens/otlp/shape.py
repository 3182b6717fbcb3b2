"""The messages of OTLP as its JSON form has them, in the shape of the classes that protobuf generates.

Names, nesting and `WhichOneof` are the same, so whatever reads the one reads the other. Ids are hexadecimal texts here
and bytes there. Only what is read is declared, null is the same as absent, and unknown fields are skipped. They are
trees, so the garbage collector need not look at them.
"""

from typing import Annotated

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class AnyValue(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The value of an attribute: one of these, or none."""

    string_value: str | None = None
    int_value: Int64 | None = None
    double_value: float | str | None = None
    """A text for the three that JSON has no number for: NaN and the infinities."""
    bool_value: bool | None = None
    array_value: "ArrayValue | None" = None
    kvlist_value: "KeyValueList | None" = None
    bytes_value: str | None = None

    def WhichOneof(self, _: str) -> str | None:
        for name in _KINDS:
            if getattr(self, name) is not None:
                return name
        return None


_KINDS = AnyValue.__struct_fields__


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    key: str = ""
    value: AnyValue | None = None


class ArrayValue(msgspec.Struct, frozen=True, gc=False):
    values: list[AnyValue | None] | None = None


class KeyValueList(msgspec.Struct, frozen=True, gc=False):
    values: list[KeyValue] | None = None


class Resource(msgspec.Struct, frozen=True, gc=False):
    attributes: list[KeyValue] | None = None


class Status(msgspec.Struct, frozen=True, gc=False):
    message: str | None = None
    code: int | str | None = None


class SpanEvent(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    attributes: list[KeyValue] | None = None


class Span(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    name: str | None = None
    start_time_unix_nano: int | None = None
    end_time_unix_nano: int | None = None
    attributes: list[KeyValue] | None = None
    events: list[SpanEvent] | None = None
    status: Status | None = None


class ScopeSpans(msgspec.Struct, frozen=True, gc=False):
    spans: list[Span] | None = None


class ResourceSpans(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource: Resource | None = None
    scope_spans: list[ScopeSpans] | None = None


class LogRecord(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    time_unix_nano: int | None = None
    observed_time_unix_nano: int | None = None
    severity_number: int | str | None = None
    severity_text: str | None = None
    event_name: str | None = None
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    trace_id: str | None = None
    span_id: str | None = None


class ScopeLogs(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    log_records: list[LogRecord] | None = None


class ResourceLogs(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource: Resource | None = None
    scope_logs: list[ScopeLogs] | None = None


class NumberDataPoint(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    attributes: list[KeyValue] | None = None
    time_unix_nano: int | None = None
    as_int: Int64 | None = None
    as_double: float | str | None = None
    flags: int | None = None

    def WhichOneof(self, _: str) -> str | None:
        return "as_int" if self.as_int is not None else "as_double" if self.as_double is not None else None


class Numbers(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    data_points: list[NumberDataPoint] | None = None


class Others(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The data points of histograms and summaries, which are only counted."""

    data_points: list[msgspec.Raw] | None = None


class Metric(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str | None = None
    unit: str | None = None
    gauge: Numbers | None = None
    sum: Numbers | None = None
    histogram: Others | None = None
    exponential_histogram: Others | None = None
    summary: Others | None = None

    def WhichOneof(self, _: str) -> str | None:
        return next((name for name in self.__struct_fields__[2:] if getattr(self, name) is not None), None)


class ScopeMetrics(msgspec.Struct, frozen=True, gc=False):
    metrics: list[Metric] | None = None


class ResourceMetrics(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource: Resource | None = None
    scope_metrics: list[ScopeMetrics] | None = None


class Request(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What is exported. Only one of the three has a place in a request; the others tell that it came to a wrong one."""

    resource_spans: list[ResourceSpans] | None = None
    resource_logs: list[ResourceLogs] | None = None
    resource_metrics: list[ResourceMetrics] | None = None


decode = msgspec.json.Decoder(Request, strict=False).decode
"""Not strict: 64-bit integers come as texts."""
