"""Events in the words of other systems: the rules by which each becomes a call, and what an observation gets."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from pipeline import START, Pipeline
from streamlens.errors import BadEvent
from streamlens.events import Call, decode
from streamlens.mappings import SOURCES, call_of, completed, digest, with_first

NOW_US = 1_783_000_000_000_000
NOW_MS = NOW_US // 1000
TS = "2026-02-21T12:34:56.789Z"
EVENTS: dict[str, dict[str, Any]] = {
    "llm_log": {"request_id": "r", "timestamp": TS, "model": "m", "latency_ms": 8},
    "telemetry": {"request_id": "r", "ts": TS, "model_id": "m", "latency_ms": 8},
    "service": {"request_id": "r", "timestamp": TS, "service": "pay", "status_code": 200, "latency_ms": 8},
}


def event(kind: str, **changed: Any) -> bytes:
    return json.dumps({name: value for name, value in (EVENTS[kind] | changed).items() if value != "absent"}).encode()


RULES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("nobody is named", "llm_log", {}, {"tenant_id": "default", "route": "default", "error_type": None}),
    ("a project is a tenant", "llm_log", {"project_id": "p"}, {"tenant_id": "p"}),
    ("a project with a number", "llm_log", {"project_id": 7}, {"tenant_id": "7"}),
    ("our own name wins", "llm_log", {"project_id": "p", "tenant_id": "t"}, {"tenant_id": "t"}),
    ("a null is nothing", "llm_log", {"project_id": "p", "tenant_id": None, "cost": None}, {"tenant_id": "p"}),
    ("the event's id, if there is no other", "telemetry", {"request_id": None, "event_id": "e"}, {"request_id": "e"}),
    ("a user with a number", "llm_log", {"user_id": 5}, {"user_id_hash": digest(b"5")}),
    ("a user who is hashed already", "llm_log", {"user_id": "a", "user_id_hash": "h"}, {"user_id_hash": "h"}),
    ("a user without a name", "llm_log", {"user_id": ""}, {"user_id_hash": None}),
    ("milliseconds", "telemetry", {"ts": NOW_MS}, {"timestamp": NOW_MS}),
    ("no time", "service", {"timestamp": "absent"}, {"timestamp": NOW_MS}),
    ("no prompt", "llm_log", {"prompt": None}, {"prompt": None}),
    ("numbers of a prompt stay as they are", "llm_log", {"prompt": [1.0, 10**30]}, {"prompt": [1.0, 10**30]}),
    ("a sender", "service", {"sender": "proxy"}, {"sender": "proxy"}),
    ("a model behind a service", "service", {"model": "m"}, {"model": "m"}),
    ("metadata of a service", "service", {"metadata": {"a": 1}}, {"metadata": {"status_code": 200, "a": 1}}),
    *[
        (f"status {status!r}", kind, {"status": status}, {"error_type": error_type})
        for kind in ("llm_log", "telemetry")
        for status, error_type in [
            (None, None),
            ("", None),
            ("ok", None),
            ("SUCCESS", None),
            ("completed", None),
            (200, None),
            ("201", None),
            ("error", "other"),
            ("failed", "other"),
            ("timeout", "timeout"),
            ("Rate_Limited", "rate_limit"),
            ("canceled", "cancelled"),
            (429, "rate_limit"),
            ("503", "server_error"),
        ]
    ],
    ("a type of error wins", "telemetry", {"status": 500, "error_type": "timeout"}, {"error_type": "timeout"}),
    ("an empty type does not", "telemetry", {"status": "error", "error_type": ""}, {"error_type": "other"}),
    *[
        (f"status code {code}", "service", {"status_code": code}, {"error_type": error_type})
        for code, error_type in [
            (100, None),
            (399, None),
            (400, "client_error"),
            (404, "client_error"),
            (408, "timeout"),
            (429, "rate_limit"),
            (499, "client_error"),
            (500, "server_error"),
            (504, "timeout"),
            (599, "server_error"),
        ]
    ],
]


@pytest.mark.parametrize(
    ("kind", "given", "members"), [row[1:] for row in RULES], ids=[f"{row[1]}: {row[0]}" for row in RULES]
)
def test_rules_that_are_more_than_a_name(kind: str, given: dict[str, Any], members: dict[str, Any]) -> None:
    call = json.loads(call_of(kind, event(kind, **given), NOW_US))
    assert {name: call.get(name) for name in members} == members


@pytest.mark.parametrize("kind", SOURCES)
def test_the_tenant_of_who_names_none_can_be_told(kind: str) -> None:
    tenants = [
        json.loads(make(event(kind, **named), NOW_US, "told"))["tenant_id"]
        for make in (partial(call_of, kind), completed)
        for named in ({}, {"tenant_id": "own"})
    ]
    assert tenants == ["told", "own", "told", "own"]


@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_required_is_enough_for_a_call(kind: str) -> None:
    assert isinstance(decode("call", call_of(kind, event(kind), NOW_US)), Call)


FIELDS = [
    (kind, field) for kind, source in SOURCES.items() for field in (*source.__struct_fields__, "route", "unknown")
]
VALUES = (
    st.sampled_from(["", "a", "\0", "200", "error", TS, "x" * 300, 0, 1.5, 7, 429, -1, 10**12, 10**30, True, {}, []])
    | st.none()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dictionaries(st.text(), st.text() | st.integers())
)


@any_of(st.sampled_from(FIELDS), VALUES, st.sampled_from(["absent", "r"]))
def test_what_is_taken_is_a_good_call_but_for_its_time_and_metadata(
    place: tuple[str, str], value: object, request_id: str
) -> None:
    kind, field = place
    try:
        call = call_of(kind, event(kind, **{"request_id": request_id, field: value}), NOW_US)
    except BadEvent as error:
        assert error.field.split(".")[0] in (field, "")
        return
    try:
        decode("call", call)
    except BadEvent as error:
        assert error.field in ("timestamp", "metadata")


async def test_a_repeated_batch_is_counted_once(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    for _ in range(2):
        for kind in SOURCES:
            time = {"ts" if kind == "telemetry" else "timestamp": START // 1000}
            call = call_of(kind, event(kind, request_id="absent", **time), START)
            await pipeline.send_raw("call", call, json.loads(call)["request_id"])
    await pipeline.settle()
    assert pipeline.ledger() == {("default", 0): {"received": 6, "aggregated": 3, "duplicate": 3}}
    assert pipeline.calls() == {("default", 0): 3}
    await pipeline.close()


LACKING = [
    ({"tenant_id": "t", "timestamp": 1}, {}),
    ({"tenant_id": "t"}, {"timestamp": NOW_MS}),
    ({"timestamp": 1}, {"tenant_id": "default"}),
    ({"timestamp": 1, "project_id": "p"}, {"tenant_id": "p"}),
    ({"timestamp": 1, "project_id": 7}, {"tenant_id": "7"}),
    ({"tenant_id": "t", "timestamp": 1, "project_id": "p"}, {}),
    ({}, {"tenant_id": "default", "timestamp": NOW_MS}),
    ({"explanation": "a\0"}, {"tenant_id": "default", "timestamp": NOW_MS}),
]


@pytest.mark.parametrize(("given", "first"), LACKING)
def test_an_observation_gets_the_tenant_and_time_that_it_lacks(given: dict[str, Any], first: dict[str, Any]) -> None:
    raw = json.dumps(given).encode()
    found = completed(raw, NOW_US)
    assert list(json.loads(found).items()) == [*first.items(), *given.items()]
    assert found.endswith(raw[1:])


@any_of(st.dictionaries(st.text(), st.integers()), st.sampled_from([b"", b" ", b"\n\t "]))
def test_members_are_put_first_whatever_follows(members: dict[str, int], space: bytes) -> None:
    raw = space + json.dumps(members).encode().replace(b"{", b"{" + space, 1) + space
    assert json.loads(with_first(b'{"a":"b"}', raw)) == {"a": "b", **members}
