"""The one validation of events: what is taken and how it is read, what is refused and which field is named."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlens.errors import BadEvent
from streamlens.events import KINDS, Call, Request, Response, decode, error_class, kind_of, time_us
from streamlens.observations import AppLog, Evaluation, SystemMetric

MS = 1_783_000_000_123
REQUEST = {"request_id": "r", "tenant_id": "t", "route": "x", "model": "m", "timestamp": MS}
RESPONSE = {"request_id": "r", "timestamp": MS}
CALL = {**REQUEST, "latency_ms": 1}
EVALUATION = {"request_id": "r", "tenant_id": "t", "name": "toxicity", "timestamp": MS, "score": 0.5}
LOG = {"timestamp": MS, "level": "INFO", "message": "started", "tenant_id": "t"}
METRIC = {"timestamp": MS, "name": "cpu", "value": 0.5, "tenant_id": "t"}
EVENTS: dict[str, tuple[type, dict[str, object]]] = {
    "request": (Request, REQUEST),
    "response": (Response, RESPONSE),
    "call": (Call, CALL),
    "evaluation": (Evaluation, EVALUATION),
    "log": (AppLog, LOG),
    "metric": (SystemMetric, METRIC),
}


def refused(kind: str, raw: bytes) -> tuple[str, str]:
    with pytest.raises(BadEvent) as caught:
        decode(kind, raw)
    return caught.value.field, caught.value.detail


def test_every_kind_has_a_case() -> None:
    assert EVENTS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", EVENTS)
def test_what_is_required_is_enough(kind: str) -> None:
    struct, event = EVENTS[kind]
    assert isinstance(decode(kind, json.dumps(event).encode()), struct)


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, (_, event) in EVENTS.items() for field in event])
def test_what_is_required_may_not_be_missing_or_null(kind: str, field: str) -> None:
    event = EVENTS[kind][1]
    missing = json.dumps({name: value for name, value in event.items() if name != field}).encode()
    assert refused(kind, missing) == (field, "required, or `label`" if field == "score" else "required")
    assert refused(kind, json.dumps({**event, field: None}).encode())[0] == field


TIMES = [
    (0.0, None),
    (946_684_799_999, None),
    (946_684_800_000, 946_684_800_000_000),
    (MS, MS * 1000),
    (253_402_300_799_999, 253_402_300_799_999_000),
    (253_402_300_800_000, None),
    (-MS, None),
    (float(MS), None),
    (10**30, None),
    (str(MS), None),
    (True, None),
    ("2026-01-01T00:00:00Z", 1_767_225_600_000_000),
    ("2026-01-01T00:00:00z", 1_767_225_600_000_000),
    ("2026-01-01T00:00:00.123456Z", 1_767_225_600_123_456),
    ("2026-01-01T05:30:00+05:30", 1_767_225_600_000_000),
    ("2025-12-31T16:00:00-08:00", 1_767_225_600_000_000),
    ("2026-01-01T00:00:00", None),
    ("2026-01-01", None),
    ("2026-02-30T00:00:00Z", None),
    ("1999-12-31T23:59:59Z", None),
    ("0001-01-01T00:00:00+23:59", None),
    ("9999-12-31T23:59:59-23:59", None),
    ("", None),
]


@pytest.mark.parametrize(("sent", "us"), TIMES)
def test_times_are_read_to_the_microsecond_or_refused(sent: object, us: int | None) -> None:
    raw = json.dumps({**RESPONSE, "timestamp": sent}).encode()
    if us is None:
        assert refused("response", raw)[0] == "timestamp"
    else:
        assert time_us(decode("response", raw).timestamp) == us


LIMITS = [
    ("request_id", "x" * 128, "x" * 129),
    ("tenant_id", "x" * 256, "x" * 257),
    ("route", "ü" * 256, "ü" * 257),
    ("model", "x", ""),
    ("prompt_tokens", 10_000_000, 10_000_001),
    ("completion_tokens", 0, -1),
    ("cached_tokens", 1, 1.5),
    ("reasoning_tokens", 1, "1"),
    ("cache_write_tokens", 1, True),
    ("total_tokens", 10_000_000, 10_000_001),
    ("cache_read_input_tokens", 0, -1),
    ("cache_creation_input_tokens", 1, 0.5),
    ("sender", "x" * 256, "x" * 257),
    ("latency_ms", 3_600_000, 3_600_000.1),
    ("ttft_ms", 0, -0.1),
    ("cost_usd", 0.000001, -1),
    ("stream", True, 1),
    ("error", "x" * 1000, 5),
    ("metadata", {str(number): number for number in range(32)}, {str(number): number for number in range(33)}),
    ("metadata", {"a": "x" * 4000}, {"a": "x" * 4096}),
    ("metadata", {"a": None, "b": 1.5, "c": False}, {"a": [1]}),
    ("client", {"app": "a"}, {"app": 5}),
    ("sender", "x" * 256, "x" * 257),
]


@pytest.mark.parametrize(("field", "good", "bad"), LIMITS)
def test_each_limit_has_two_sides(field: str, good: object, bad: object) -> None:
    assert decode("call", json.dumps({**CALL, field: good}).encode())
    assert refused("call", json.dumps({**CALL, field: bad}).encode())[0].split(".")[0] == field


NUL = [
    ("route", "\0"),
    ("session_id", "a\0"),
    ("metadata", {"a\0": 1}),
    ("metadata", {"a": "\0"}),
    ("client", {"os": "\0"}),
    ("experiment", {"name": "a", "variant": "\0"}),
    ("error_type", "\0"),
    ("sender", "\0"),
]


@pytest.mark.parametrize(("field", "value"), NUL)
def test_no_name_has_a_nul(field: str, value: object) -> None:
    assert refused("call", json.dumps({**CALL, field: value}).encode()) == (field, "contains a NUL character")


@pytest.mark.parametrize("field", ["prompt", "response", "error", "unknown"])
def test_content_may_have_a_nul(field: str) -> None:
    assert decode("call", json.dumps({**CALL, field: "a\0"}).encode())


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    event = decode("call", json.dumps({**CALL, "route": "\\u0000"}).encode())
    assert isinstance(event, Call)
    assert event.route == "\\u0000"


def test_the_type_of_one_of_many() -> None:
    assert kind_of(json.dumps({"type": "call", "request_id": 5}).encode()) == "call"
    for raw in (b"{}", b'{"type":"span"}', b'{"type":null}', b'{"type":1}'):
        with pytest.raises(BadEvent) as caught:
            kind_of(raw)
        assert caught.value.field == "type"


@given(st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_nothing_but_a_bad_event_comes_of_junk(junk: object) -> None:
    raw = junk if isinstance(junk, bytes) else json.dumps(junk).encode()
    for kind in KINDS:
        with pytest.raises(BadEvent):
            decode(kind, raw)


@given(
    st.sampled_from(sorted({field for struct in KINDS.values() for field in struct.__struct_fields__})),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dictionaries(st.text(), st.text()),
)
def test_a_field_of_any_value_is_taken_or_named(field: str, value: object) -> None:
    raw = json.dumps({**CALL, field: value}).encode()
    try:
        decode("call", raw)
    except BadEvent as error:
        assert error.field.split(".")[0] in (field, "")


ERRORS = [
    ((None, None, None), None),
    (("", None, "stop"), None),
    (("", "", None), None),
    (("boom", None, None), "other"),
    ((None, "timeout", None), "timeout"),
    (("boom", "rate_limit", "error"), "rate_limit"),
    ((None, "Overloaded", None), "other"),
    ((None, None, "error"), "other"),
    ((None, None, "length"), None),
]


@pytest.mark.parametrize(("given", "expected"), ERRORS)
def test_what_counts_as_an_error(given: tuple[str | None, str | None, str | None], expected: str | None) -> None:
    assert error_class(*given) == expected


def test_an_aware_time_of_any_zone_is_the_same_moment() -> None:
    assert time_us(datetime(2026, 1, 1, tzinfo=UTC)) == time_us(1_767_225_600_000)
