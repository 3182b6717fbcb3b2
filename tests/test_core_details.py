"""What halves carry for calls that are kept whole: nothing of the content unless it is captured, and then bounded."""

import json
from typing import Any

import msgspec
import pytest

from streamlens.details import CONTENT_BYTES, CUT, ERROR_BYTES, Answered, Asked, Details
from streamlens.errors import BadEvent
from streamlens.events import decode
from streamlens.facets import Facets
from streamlens.join import RequestHalf, decode_half, encode_half
from streamlens.redact import PATTERNS, Redaction

OFF, ON = Details(Redaction(PATTERNS)), Details(Redaction(PATTERNS), captures=True)


def request(**fields: Any) -> Any:
    needed = {"request_id": "r", "tenant_id": "t", "route": "c", "model": "m", "timestamp": 1_790_000_000_000}
    return decode("request", json.dumps(needed | fields).encode())


def response(**fields: Any) -> Any:
    return decode("response", json.dumps({"request_id": "r", "timestamp": 1_790_000_000_000} | fields).encode())


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, None),
        ({"provider": "openai", "prompt": "a secret", "region": "", "metadata": {}}, None),
        ({"stream": False}, Asked(stream=False)),
        ({"experiment": {"name": "tone", "variant": "A"}}, Asked(experiment="tone", variant="A")),
        ({"client": {"app": "ios"}, "region": "eu"}, Asked(client_app="ios", region="eu")),
        ({"metadata": {"n": 2**64 - 1, "b": True}}, Asked(metadata=b'{"n":18446744073709551615,"b":true}')),
    ],
)
def test_what_a_request_tells(fields: dict[str, Any], asked: Asked | None) -> None:
    assert OFF.of_request(request(**fields)) == asked


@pytest.mark.parametrize(
    ("fields", "answered"),
    [
        ({}, None),
        ({"response": "a secret", "error": "", "completion_tokens": 3}, None),
        ({"finish_reason": "stop"}, Answered(finish_reason="stop")),
        ({"error_type": "timeout"}, Answered()),
        ({"error_type": "quota", "error": "no\0!"}, Answered(error="no\ufffd!", error_type="quota")),
        ({"error": "wrong key sk-abcdefghijklmnopqrst"}, Answered(error="wrong key [key]")),
        ({"error": "x" * 5_000}, Answered(error="x" * ERROR_BYTES + CUT)),
    ],
)
def test_what_a_response_tells(fields: dict[str, Any], answered: Answered | None) -> None:
    assert OFF.of_response(response(**fields)) == answered


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("Hello, ann@example.org", "Hello, [email]"),
        ([{"role": "user", "content": "hi\0"}], '[{"role":"user","content":"hi\\u0000"}]'),
        ([{"content": "hi\nsk-0123456789abcdefghij\x1bann@b.de\\"}], '[{"content":"hi\\n[key]\\u001b[email]\\\\"}]'),
        ('[{"content":"hi\\nsk-0123456789abcdefghij"}]', '[{"content":"hi\\n[key]"}]'),
        ("", ""),
        (None, None),
        ("a\0b", "a\ufffdb"),
        ("x" * CONTENT_BYTES, "x" * CONTENT_BYTES),
        ("x" * (CONTENT_BYTES + 1), "x" * CONTENT_BYTES + CUT),
        ("é" * CONTENT_BYTES, "é" * (CONTENT_BYTES // 2) + CUT),
        ("a@b.de " * 10_000, "[email] " * (CONTENT_BYTES // 8) + CUT),
    ],
    ids=[
        "redacted",
        "messages",
        "lines of messages",
        "messages as a text",
        "empty",
        "none",
        "NUL",
        "as long as may be",
        "one more",
        "characters",
        "all addresses",
    ],
)
def test_captured_content(content: Any, kept: str | None) -> None:
    asked, answered = ON.of_request(request(prompt=content)), ON.of_response(response(response=content))
    assert (asked and asked.prompt) == kept
    assert (answered and answered.response) == kept


def test_what_is_nested_as_deeply_as_can_be_read_stops_nothing() -> None:
    def deep(levels: int) -> Any:
        raw = b'{"request_id":"r","tenant_id":"t","route":"c","model":"m","timestamp":1790000000000,"prompt":%s}'
        return decode("request", raw % (b"[" * levels + b"]" * levels))

    def within(calls: int, event: Any) -> Any:
        return within(calls - 1, event) if calls else ON.of_request(event)

    levels = next(levels for levels in range(1_000, 0, -1) if _is_read(deep, levels))
    assert within(10, deep(levels)) == Asked(prompt=CUT)
    assert within(0, deep(levels - 50)) == Asked(prompt="[" * (levels - 50) + "]" * (levels - 50))


def _is_read(deep: Any, levels: int) -> bool:
    try:
        deep(levels)
    except BadEvent:
        return False
    return True


@pytest.mark.parametrize("before", range(CONTENT_BYTES - 30, CONTENT_BYTES + 1_040, 31))
@pytest.mark.parametrize("shrinks", [False, True])
def test_a_cut_leaves_no_half_of_a_secret(before: int, shrinks: bool) -> None:
    start = ("a.very.long.name@example.org " * 1_000)[:before] if shrinks else ""
    text = start + "." * (before - len(start)) + " sk-0123456789abcdefghij" + "." * 5_000
    asked = ON.of_request(request(prompt=text))
    assert asked and asked.prompt and "sk-0" not in asked.prompt


@pytest.mark.parametrize("before", range(CONTENT_BYTES - 3_000, CONTENT_BYTES + 1_000, 250))
@pytest.mark.parametrize("structured", [False, True])
def test_a_cut_leaves_no_beginning_of_a_long_token(before: int, structured: bool) -> None:
    text = "." * before + "\neyJhbGciOiJIUzI1NiJ9." + "a" * 3_000 + ".SflKxwRJSMeKKF2QT4" + "." * 5_000
    asked = ON.of_request(request(prompt=[text] if structured else text))
    assert asked and asked.prompt and asked.prompt.endswith(CUT) and "eyJ" not in asked.prompt


def test_a_half_that_waits_is_read_back_and_one_of_an_older_state_too() -> None:
    half = RequestHalf.of(request(prompt="hi", metadata={"n": 10**30}), 1, Facets(), ON)
    assert half.asked == Asked(metadata=b'{"n":1000000000000000000000000000000}', prompt="hi")
    assert decode_half(encode_half(half)) == half
    older = ["q", 1, "t", "c", "m", None, 3]
    assert decode_half(msgspec.msgpack.encode(older)) == RequestHalf(1, "t", "c", "m", None, 3)
