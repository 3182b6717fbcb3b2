"""OTLP requests for tests: written as JSON has them, and sent as JSON or protobuf."""

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from streamlens.otlp.messages import JSON, PROTOBUF, TRACES, Signal

GOLDEN = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(Path(__file__).parent.glob("golden/otlp/*.json"))
}
"""By dialect: a `request`, and the `calls` that are in it."""
FORMS = (JSON, PROTOBUF)
TRACE_ID = "5b8efff798038103d269b633813fc60c"
START_NS = 1_782_999_990_000_000_000


def encoded(signal: Signal, form: str, document: Any) -> bytes:
    """A request, as JSON has it, in one of `FORMS`."""
    if form == JSON:
        return json.dumps(document).encode()
    request = GetMessageClass(Default().FindMessageTypeByName(signal.request.DESCRIPTOR.full_name))()
    return ParseDict(_with_base64(document), request, ignore_unknown_fields=True).SerializeToString()  # type: ignore[no-any-return]


def attributes(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any_value(value)} for name, value in said.items()]


def span(number: int = 1, said: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    """A chat span of 12.5 ms with `said` among its attributes; None as a value takes a field away."""
    usual = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "gen_ai.usage.input_tokens": 3}
    made = {
        "traceId": TRACE_ID,
        "spanId": f"{number:016x}",
        "name": "chat m-1",
        "kind": 3,
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(START_NS + 12_500_000),
        "attributes": attributes(usual | (said or {})),
    } | changed
    return {name: value for name, value in made.items() if value is not None}


def traces(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    said = {"service.name": "shop"} if resource is None else resource
    return {"resourceSpans": [{"resource": {"attributes": attributes(said)}, "scopeSpans": [{"spans": list(spans)}]}]}


def logs(*records: dict[str, Any], tenant_id: str = "acme") -> dict[str, Any]:
    said = attributes({"service.name": "shop", "tenant.id": tenant_id})
    return {"resourceLogs": [{"resource": {"attributes": said}, "scopeLogs": [{"logRecords": list(records)}]}]}


def metrics(*found: dict[str, Any], tenant_id: str = "acme") -> dict[str, Any]:
    said = attributes({"service.name": "shop", "tenant.id": tenant_id})
    return {"resourceMetrics": [{"resource": {"attributes": said}, "scopeMetrics": [{"metrics": list(found)}]}]}


AT = "1782999990000000000"
GAUGE = {"name": "gpu", "unit": "1", "gauge": {"dataPoints": [{"asDouble": 0.5, "timeUnixNano": AT}]}}
LINE = {"body": {"stringValue": "hello"}, "severityNumber": 9}
GOOD: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/traces": lambda tenant_id: traces(span(), resource={"tenant.id": tenant_id}),
    "/v1/logs": lambda tenant_id: logs(LINE, tenant_id=tenant_id),
    "/v1/metrics": lambda tenant_id: metrics(GAUGE, tenant_id=tenant_id),
}
"""A request with one good item of a tenant, by path."""


def many(count: int, form: str, number: int = 0) -> bytes:
    """A request with so many ordinary chat spans, for measuring. Ids and tokens are others for each `number`."""
    said = {
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ["stop"],
        "server.address": "api.openai.com",
        "server.port": 443,
        "gen_ai.input.messages": "x" * 200,
    }
    draw = random.Random(number)
    spans = []
    for index in range(number * count, (number + 1) * count):
        own = {
            "gen_ai.response.id": f"chatcmpl-{index:024}",
            "gen_ai.usage.input_tokens": round(draw.lognormvariate(7, 1)),
            "gen_ai.usage.output_tokens": round(draw.lognormvariate(5.5, 1)),
        }
        spans.append(span(index + 1, said | own, traceId=f"{draw.getrandbits(128):032x}"))
    return encoded(TRACES, form, traces(*spans))


def _any_value(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any_value(each) for each in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"intValue": str(value)}
    return {{bool: "boolValue", float: "doubleValue", str: "stringValue"}[type(value)]: value}


def _with_base64(value: Any) -> Any:
    """Ids as protobuf's own JSON has them."""
    if isinstance(value, dict):
        return {
            name: base64.b64encode(bytes.fromhex(each)).decode()
            if name in ("traceId", "spanId", "parentSpanId")
            else _with_base64(each)
            for name, each in value.items()
        }
    return [_with_base64(each) for each in value] if isinstance(value, list) else value
