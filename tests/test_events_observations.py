"""Evaluations, app logs and system metrics: what is taken, how it is read, what is refused and which field is named."""

import json

import pytest

from streamlens.errors import BadEvent
from streamlens.events import decode
from streamlens.observations import LEVELS, MAX_MESSAGE_BYTES, AppLog

MS = 1_783_000_000_123
EVENTS = {
    "evaluation": {"request_id": "r", "tenant_id": "t", "name": "toxicity", "timestamp": MS, "score": 0.5},
    "log": {"timestamp": MS, "level": "INFO", "message": "started", "tenant_id": "t"},
    "metric": {"timestamp": MS, "name": "cpu", "value": 0.5, "tenant_id": "t"},
}

GOOD = [
    ("evaluation", {"score": -1e9}),
    ("evaluation", {"score": 1}),
    ("evaluation", {"score": None, "label": "toxic"}),
    (
        "evaluation",
        {"label": "toxic", "explanation": "x" * 10_000, "evaluator": "judge", "route": "chat", "model": "m"},
    ),
    ("log", {"message": ""}),
    ("log", {"message": "x" * MAX_MESSAGE_BYTES}),
    ("log", {"attributes": {str(number): number for number in range(32)}}),
    ("log", {"attributes": {"a": None, "b": 1.5, "c": True}, "service": "api", "request_id": "r", "session_id": "s"}),
    ("metric", {"value": -1e15}),
    ("metric", {"value": 7}),
    ("metric", {"tags": {str(number): number for number in range(16)}, "unit": "%"}),
]


@pytest.mark.parametrize(("kind", "fields"), GOOD)
def test_what_is_taken(kind: str, fields: dict[str, object]) -> None:
    event = decode(kind, json.dumps({**EVENTS[kind], "unknown": [], **fields}).encode())
    assert {name: getattr(event, name) for name in fields} == fields


BAD = [
    ("evaluation", "score", 1.1e9),
    ("evaluation", "score", "1"),
    ("evaluation", "score", True),
    ("evaluation", "label", ""),
    ("evaluation", "label", "x" * 257),
    ("evaluation", "label", 1),
    ("evaluation", "name", "a\0"),
    ("evaluation", "explanation", {}),
    ("evaluation", "evaluator", "x" * 257),
    ("log", "level", ""),
    ("log", "level", "LOUD"),
    ("log", "level", 20),
    ("log", "message", "x" * (MAX_MESSAGE_BYTES + 1)),
    ("log", "message", "ü" * (MAX_MESSAGE_BYTES // 2 + 1)),
    ("log", "message", "€" * (MAX_MESSAGE_BYTES // 3 + 1)),
    ("log", "message", "😀" * (MAX_MESSAGE_BYTES // 4 + 1)),
    ("log", "message", "a\0"),
    ("log", "attributes", {str(number): number for number in range(33)}),
    ("log", "attributes", {"a": "x" * 4096}),
    ("log", "attributes", {"a": {}}),
    ("log", "attributes", {"a": "\0"}),
    ("log", "service", ""),
    ("metric", "value", 1.1e15),
    ("metric", "value", "1"),
    ("metric", "value", False),
    ("metric", "tags", {str(number): number for number in range(17)}),
    ("metric", "tags", {"a": "x" * 4096}),
    ("metric", "tags", {"a": []}),
    ("metric", "unit", "x" * 257),
    ("metric", "timestamp", MS * 1000),
    ("metric", "timestamp", "1999-12-31T23:59:59Z"),
]


@pytest.mark.parametrize(("kind", "field", "value"), BAD)
def test_what_is_refused(kind: str, field: str, value: object) -> None:
    with pytest.raises(BadEvent) as caught:
        decode(kind, json.dumps({**EVENTS[kind], field: value}).encode())
    assert caught.value.field.split(".")[0] == field


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e400"])
@pytest.mark.parametrize(("kind", "field"), [("evaluation", "score"), ("metric", "value")])
def test_a_number_is_finite(kind: str, field: str, number: bytes) -> None:
    raw = json.dumps({**EVENTS[kind], field: 12345}).encode().replace(b"12345", number)
    with pytest.raises(BadEvent):
        decode(kind, raw)


SPELLINGS = {
    "DEBUG": ["debug", "TRACE"],
    "INFO": ["Info", " info ", "notice"],
    "WARNING": ["warn", "Warning"],
    "ERROR": ["err", "error"],
    "CRITICAL": ["fatal", "crit", "PANIC"],
}


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_has_many_spellings(level: str) -> None:
    for spelling in [level, *SPELLINGS[level]]:
        event = decode("log", json.dumps({**EVENTS["log"], "level": spelling}).encode())
        assert isinstance(event, AppLog)
        assert event.level == level
