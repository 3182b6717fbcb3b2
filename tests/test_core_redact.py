"""What is taken out of texts, what stays, and that no pattern and no text takes long."""

import time
from pathlib import Path

import pytest

from streamlens.errors import BadSetting
from streamlens.redact import PATTERNS, Redaction

FOUND = [
    ("email", "write to ann.b+x@exa-mple.co.uk now", "write to [email] now"),
    ("email", "an address with umlauts: jörg@größe.de", "an address with umlauts: [email]"),
    ("phone", "call +49 170 1234567, or 0049-170-1234567", "call [phone], or [phone]"),
    ("phone", "(555) 123-4567 or 555.123.4567", "[phone] or [phone]"),
    ("card", "4111 1111 1111 1111 and 378282246310005", "[card] and [card]"),
    ("key", "sk-proj-abcdefghijklmnop1234, sl_0123456789abcdefghij", "[key], [key]"),
    ("key", "AKIAABCDEFGHIJKLMNOP ghp_0123456789abcdefghijABCDEFGHIJ01", "[key] [key]"),
    ("key", "Bearer eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4", "Bearer [key]"),
    ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend", "[key]\nend"),
]
LEFT = [
    ("email", "@decorator, a@b, user at example dot org"),
    ("phone", "in 2026, order 12345678, version 1.2.3.4, 192.168.100.200"),
    ("card", "at 1700000000001 ms, trace 4111111111111112, 12345678901234567890123"),
    ("key", "task-force, risk_assessment_of_everything, AKIA, eyJust.a.sentence"),
]


@pytest.mark.parametrize(("name", "text", "redacted"), FOUND)
def test_found(name: str, text: str, redacted: str) -> None:
    assert Redaction([name]).of(text.encode()).decode() == redacted
    assert Redaction(PATTERNS).of(text.encode()).decode() == redacted, "also beside all others"
    assert Redaction(PATTERNS.keys() - {name}).of(text.encode()).decode() != redacted


@pytest.mark.parametrize(("name", "text"), LEFT)
def test_left_as_it_is(name: str, text: str) -> None:
    assert Redaction([name]).of(text.encode()).decode() == text


def test_own_patterns_are_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "patterns"
    file.write_text("# our customers\n\n(?i)kd-\\d{4}\nstraße \\d+\n", "utf-8")
    assert Redaction([], file).of("KD-1234 in der straße 7, kd-12".encode()) == b"[redacted] in der [redacted], kd-12"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("good\n(bad", "line 2: missing \\)"),
        ("(?<=a)b", "line 1: invalid perl operator"),
        ("a*", "line 1: it matches the empty text"),
        ("x\n" * 101, "more than 100 expressions"),
        (None, "No such file"),
    ],
    ids=["not an expression", "look-behind", "matches nothing at all", "too many", "no file"],
)
def test_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "patterns"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadSetting, match=f"STREAMLENS_REDACT_FILE: .*{message}"):
        Redaction([], file)


@pytest.mark.parametrize("text", [b"a" * 17_000, b"1 " * 8_500, b"a.a@" * 4_250, b"(1" * 8_500, b"x" * 17_000])
def test_no_text_takes_long(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "patterns"
    file.write_text("(x+x+)+y\n(a|aa)+b\n(\\d+ )*;\n")
    redaction = Redaction(PATTERNS, file)
    began = time.process_time()
    redaction.of(text)
    assert time.process_time() - began < 0.5, "a backtracking engine needs years"
