"""Which spans are calls, and what each dialect's attributes mean: golden requests, and one table of rules."""

import json
from pathlib import Path
from typing import Any

import pytest

from otlp_messages import FORMS, GOLDEN, START_NS, TRACE_ID, encoded, span, traces
from streamlens.dialects import FIELDS, INFERENCE, RESOURCE, error_type_of
from streamlens.errors import BadEvent
from streamlens.events import ERROR_CLASSES, Call, decode
from streamlens.otlp.messages import JSON, TRACES
from streamlens.otlp.messages import decode as decoded

OWN_ID = f"{TRACE_ID}:{1:016x}"


def read(form: str, document: Any, key_tenant: str | None = None) -> list[dict[str, Any] | BadEvent | None]:
    """What each span becomes; each call is valid."""
    found: list[dict[str, Any] | BadEvent | None] = []
    for _, event in TRACES.read(decoded(TRACES, form, encoded(TRACES, form, document)), key_tenant, 0):
        if isinstance(event, bytes):
            decode("call", event)
            found.append(json.loads(event))
        else:
            found.append(event)
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dialect", GOLDEN)
def test_a_dialect_means_these_calls(dialect: str, form: str) -> None:
    found = read(form, GOLDEN[dialect]["request"])
    assert [call for call in found if call is not None] == GOLDEN[dialect]["calls"]
    assert None in found or dialect == "genai-newer"


def test_the_golden_requests_have_each_kind_of_mark() -> None:
    text = json.dumps(GOLDEN)
    assert [name for name in INFERENCE if f'"{name}"' not in text] == []


def test_each_field_is_one_of_a_call() -> None:
    made_of = {"agent", "first_token_at_us", "http_status", "user_id"}
    assert FIELDS.keys() - made_of <= set(Call.__struct_fields__)
    assert FIELDS.keys() >= made_of
    assert set(RESOURCE) == {"tenant_id", "namespace", "route", "service", "region"}


RULES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("it has its own id without one of the provider", {}, {}, {"request_id": OWN_ID}),
    ("the provider's id, so that two spans of one response are one call", {"gen_ai.response.id": "r-1"}, {},
     {"request_id": "r-1"}),
    ("of a call that failed, OpenInference has the model in its parameters alone",
     {"gen_ai.request.model": None, "llm.invocation_parameters": '{"model": "m-2", "seed": 1}'}, {}, {"model": "m-2"}),
    ("which are not what answered", {"llm.invocation_parameters": '{"model": "m-2"}'}, {}, {"model": "m-1"}),
    ("they may have none", {"gen_ai.request.model": None, "llm.invocation_parameters": "{}"}, {}, {"model": "unknown"}),
    ("why it ended, as OpenInference has it", {"llm.finish_reason": "stop"}, {}, {"finish_reason": "stop"}),
    ("an empty id is none", {"gen_ai.response.id": ""}, {}, {"request_id": OWN_ID}),
    ("the resource's tenant", {}, {"tenant_id": "t-2"}, {"tenant_id": "t-2"}),
    ("the span's tenant goes before it", {"tenant.id": "t-1"}, {"tenant.id": "t-2"}, {"tenant_id": "t-1"}),
    ("a tenant may be a number", {"tenant.id": 7}, {}, {"tenant_id": "7"}),
    ("the namespace as the tenant", {}, {"service.namespace": "n"}, {"tenant_id": "n"}),
    ("nobody's is the default tenant's", {}, {}, {"tenant_id": "default"}),
    ("the service as the route", {}, {"service.name": "s"}, {"route": "s"}),
    ("the agent goes before it", {"gen_ai.agent.name": "a"}, {"service.name": "s"}, {"route": "a"}),
    ("a route of the resource goes before that", {"gen_ai.agent.name": "a"}, {"streamlens.route": "r"}, {"route": "r"}),
    ("the span's route before all", {"streamlens.route": "q"}, {"streamlens.route": "r"}, {"route": "q"}),
    ("no route at all", {}, {}, {"route": "default"}),
    ("the model that answered", {"gen_ai.response.model": "m-2"}, {}, {"model": "m-2"}),
    ("the model that was asked", {"gen_ai.response.model": ""}, {}, {"model": "m-1"}),
    ("no model", {"gen_ai.request.model": None}, {}, {"model": "unknown"}),
    ("absent tokens stay absent", {"gen_ai.usage.input_tokens": None}, {}, {"prompt_tokens": None}),
    ("tokens as a whole float", {"gen_ai.usage.input_tokens": 5.0}, {}, {"prompt_tokens": 5}),
    ("the newer name goes before the older one", {"gen_ai.usage.prompt_tokens": 9}, {}, {"prompt_tokens": 3}),
    ("a key without value says nothing", {"gen_ai.response.model": None, "tenant.id": None}, {},
     {"model": "m-1", "tenant_id": "default"}),
    ("a price of 0 is none", {"gen_ai.usage.cost": 0.0}, {}, {"cost_usd": None}),
    ("an error by its class", {"error.type": "timeout"}, {}, {"error_type": "timeout"}),
    ("an error by its exception", {"error.type": "anthropic.OverloadedError"}, {}, {"error_type": "server_error"}),
    ("an error by its status", {"error.type": "429"}, {}, {"error_type": "rate_limit"}),
    ("an error nobody knows", {"error.type": "Oops"}, {}, {"error_type": "Oops"}),
    ("finish reasons as JSON", {"gen_ai.response.finish_reasons": '["length"]'}, {}, {"finish_reason": "length"}),
    ("no finish reasons", {"gen_ai.response.finish_reasons": []}, {}, {"finish_reason": None}),
    ("a long text is cut", {"session.id": "s" * 300}, {}, {"session_id": "s" * 256}),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("said", "resource", "meant"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_a_rule(form: str, said: dict[str, Any], resource: dict[str, Any], meant: dict[str, Any]) -> None:
    (call,) = read(form, traces(span(said=said), resource=resource))
    assert isinstance(call, dict)
    assert {field: call.get(field) for field in meant} == meant
    assert (call["timestamp"], call["latency_ms"]) == (START_NS // 1_000_000, 12.5)


def test_the_keys_tenant_comes_before_the_namespace_only() -> None:
    said: list[tuple[dict[str, Any], str]] = [
        ({"service.namespace": "n"}, "key"),
        ({"tenant.id": "t"}, "t"),
        ({}, "key"),
    ]
    for resource, tenant in said:
        (call,) = read(FORMS[0], traces(span(), resource=resource), "key")
        assert isinstance(call, dict) and call["tenant_id"] == tenant


STATUSES: list[tuple[str, dict[str, Any], dict[str, Any], tuple[Any, Any]]] = [
    ("no status", {}, {}, (None, None)),
    ("unset", {}, {"status": {}}, (None, None)),
    ("ok", {}, {"status": {"code": 1, "message": "x"}}, (None, None)),
    ("an error and no more", {}, {"status": {"code": 2}}, ("other", None)),
    ("with a text", {}, {"status": {"code": 2, "message": "boom"}}, ("other", "boom")),
    ("with a long one", {}, {"status": {"code": 2, "message": "b" * 5000}}, ("other", "b" * 1024)),
    ("with a status of HTTP", {"http.response.status_code": 503}, {"status": {"code": 2}}, ("server_error", None)),
    ("with a good one", {"http.response.status_code": 200}, {"status": {"code": 2}}, ("other", None)),
    (
        "a bad status of HTTP alone is none",
        {"http.response.status_code": 500},
        {},
        (None, None),
    ),
    ("the fallback of the conventions", {"error.type": "_OTHER"}, {"status": {"code": 2}}, ("other", None)),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("said", "changed", "error"), [row[1:] for row in STATUSES], ids=[row[0] for row in STATUSES])
def test_a_status(form: str, said: dict[str, Any], changed: dict[str, Any], error: tuple[Any, Any]) -> None:
    (call,) = read(form, traces(span(said=said, **changed)))
    assert isinstance(call, dict)
    assert (call.get("error_type"), call.get("error")) == error


def test_classes_of_errors() -> None:
    classes = {
        "timeout": ("openai.APITimeoutError", "ConnectTimeout", "504", "408", "DEADLINE_EXCEEDED", "timed_out"),
        "rate_limit": ("RateLimitError", "429", "rate_limit_exceeded", "RESOURCE_EXHAUSTED", "ThrottlingException"),
        "server_error": ("500", "529", "InternalServerError", "APIConnectionError", "overloaded_error", "UNAVAILABLE"),
        "client_error": ("400", "404", "BadRequestError", "openai.NotFoundError", "invalid_request_error"),
        "content_filter": ("content_filter", "ContentPolicyViolationError", "SAFETY"),
        "cancelled": ("asyncio.CancelledError", "AbortError"),
        "model_error": ("UnexpectedModelBehavior",),
        "other": ("other",),
        "KeyError": ("KeyError",),
    }
    wrong = {raw: error_type_of(raw) for found, raws in classes.items() for raw in raws if error_type_of(raw) != found}
    assert wrong == {}
    assert set(classes) - {"KeyError"} == ERROR_CLASSES


NO_CALLS: list[dict[str, Any]] = [
    {"gen_ai.operation.name": None},
    {"gen_ai.operation.name": "invoke_agent"},
    {"gen_ai.operation.name": "execute_tool"},
    {"openinference.span.kind": "AGENT"},
    {"traceloop.span.kind": "task"},
    {"llm.request.type": "rerank"},
    {"ai.operationId": "ai.generateText"},
    {"langfuse.observation.type": "span"},
    {"gen_ai.operation.name": ["chat"]},
]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_around_calls_is_none(form: str) -> None:
    assert read(form, traces(*(span(said=said) for said in NO_CALLS))) == [None] * len(NO_CALLS)


@pytest.mark.parametrize("form", FORMS)
def test_a_span_without_kind_or_end_or_sense(form: str) -> None:
    found = read(
        form,
        traces(
            span(1, kind=None, name=None),
            span(2, endTimeUnixNano=None),
            span(3, startTimeUnixNano=None),
            span(4, spanId="0" * 16),
            span(5, endTimeUnixNano=str(START_NS - 1)),
            span(6, startTimeUnixNano=str(2**64 - 1), endTimeUnixNano=str(2**64 - 1)),  # the year 2554
        ),
    )
    assert [event.field if isinstance(event, BadEvent) else event and event["latency_ms"] for event in found] == [
        12.5,
        "endTimeUnixNano",
        "startTimeUnixNano",
        "spanId",
        0.0,
        0.0,
    ]


def test_a_number_without_end_is_bad_and_harms_nobody() -> None:
    """Neither a time, nor what a reader makes of a value."""
    document = traces(
        span(1, startTimeUnixNano="9" * 400),
        span(2, endTimeUnixNano="9" * 400),
        span(3, {"gen_ai.usage.input_tokens": 1e300}),
        span(4, {"http.status_code": "9" * 5000, "gen_ai.usage.cost": 1e300}, status={"code": 2}),
    )
    found = [event for _, event in TRACES.read(decoded(TRACES, JSON, json.dumps(document).encode()), None, 0)]
    assert isinstance(found[0], bytes) and json.loads(found[0])["timestamp"] == 2**63 // 1_000_000  # in the future
    for event, field in zip(found[1:], ("latency_ms", "prompt_tokens", "cost_usd"), strict=True):
        assert isinstance(event, bytes)
        with pytest.raises(BadEvent, match=field):
            decode("call", event)


def test_the_contract_names_every_mark() -> None:
    contract = (Path(__file__).parents[1] / "docs/api.md").read_text("utf-8")
    names = {*INFERENCE, *(value for values in INFERENCE.values() for value in values)}
    assert [name for name in sorted(names) if f"`{name}`" not in contract] == []
