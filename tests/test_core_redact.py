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
    ("card", "4111 1111 1111 1111 12/27, 4111-1111-1111-1111 123", "[card] 12/27, [card] 123"),
    ("card", "12/26 4111 1111 1111 1111 123", "12/26 [card] 123"),
    ("card", "2026-11-22 4111111111111111 5500000000000004 12 27", "2026-11-22 [card] [card] 12 27"),
    ("card", "378282 24631 0005 and 12/27 3782 822463 10005 1234", "[card] and 12/27 [card] 1234"),
    ("card", r"in JSON\n4111111111111111\u20144111 1111 1111 1111 12", r"in JSON\n[card]\u2014[card] 12"),
    ("email", r"in JSON\nann@example.org", r"in JSON\n[email]"),
    ("phone", r"in JSON\n0049-170-1234567\t555.123.4567", r"in JSON\n[phone]\t[phone]"),
    ("key", r"in JSON\nsk-0123456789abcdefghij\fAKIAABCDEFGHIJKLMNOP\n", r"in JSON\n[key]\f[key]\n"),
    ("key", r"in JSON\u00e9ghp_0123456789abcdefghijABCDEFGHIJ01", r"in JSON\u00e9[key]"),
    ("key", "sk-proj-abcdefghijklmnop1234, sl_0123456789abcdefghij", "[key], [key]"),
    ("key", "AKIAABCDEFGHIJKLMNOP ghp_0123456789abcdefghijABCDEFGHIJ01", "[key] [key]"),
    ("key", "Bearer eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4", "Bearer [key]"),
    ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nend", "[key]\nend"),
]
LEFT = [
    ("email", "@decorator, a@b, user at example dot org"),
    ("phone", "in 2026, order 12345678, version 1.2.3.4, 192.168.100.200"),
    ("card", "at 1700000000001 ms, trace 4111111111111112, 12345678901234567890123"),
    (
        "card",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39",
    ),
    ("card", "4111 1111 1111 1112 12/27"),
    ("key", "task-force, risk_assessment_of_everything, AKIA, eyJust.a.sentence"),
    ("key", r"C:\tests\risk_assessment_of_everything\task_assessment_of_everything"),
]


@pytest.mark.parametrize(("name", "text", "redacted"), FOUND)
def test_found(name: str, text: str, redacted: str) -> None:
    assert Redaction([name]).of(text.encode()).decode() == redacted
    assert Redaction(PATTERNS).of(text.encode()).decode() == redacted, "also beside all others"
    assert Redaction(PATTERNS.keys() - {name}).of(text.encode()).decode() != redacted


@pytest.mark.parametrize(("name", "text"), LEFT)
def test_left_as_it_is(name: str, text: str) -> None:
    assert Redaction([name]).of(text.encode()).decode() == text


@pytest.mark.parametrize(
    "token", ["eyJhbGciOiJIUzI1", "eyJhbGciOiJIUzI1.", "eyJhbGciOiJIUzI1.eyJzdWIi", "eyJhbGciOiJI.ab.cd"]
)
def test_a_token_is_unfinished_only_where_a_text_was_cut(token: str) -> None:
    text, json = f"the {token}".encode(), f'["\\u0007{token}'.encode()
    for redaction, told in ((Redaction(["key"]), "[key]"), (Redaction(["email"]), token)):
        assert redaction.of(text, cut=True) == f"the {told}".encode()
        assert redaction.of(text + b" is", cut=True) == text + b" is"
        assert redaction.of(text) == text
        assert redaction.of_json(json, cut=True) == f'["\\u0007{told}'.encode()
        assert redaction.of_json(json + b'"]', cut=True) == json + b'"]'


@pytest.mark.parametrize(
    ("json", "redacted"),
    [
        (r'{"a\nsk-0123456789abcdefghij":4111111111111111}', r'{"a\n[key]":[card]}'),
        (
            r'["say \"KD-1\"","\u0000KD-2\\","\\\nann@example.org"]',
            r'["say \"[redacted]\"","\u0000[redacted]\\","\\\n[email]"]',
        ),
        (r'["{\"to\":\"a\\nsk-0123456789abcdefghij\"}"]', r'["{\"to\":\"a\\n[key]\"}"]'),
        (r'["cut \nKD-12 \u00', r'["cut \n[redacted]2 \u00'),
    ],
    ids=["keys and numbers", "what is escaped", "JSON in JSON", "within an escape"],
)
def test_escapes_in_json_hide_nothing(tmp_path: Path, json: str, redacted: str) -> None:
    file = tmp_path / "patterns"
    file.write_text(r"\bKD-\d")
    assert Redaction(PATTERNS, file).of_json(json.encode()).decode() == redacted


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


@pytest.mark.parametrize(
    "text", [b"a" * 17_000, b"1 " * 8_500, b"a.a@" * 4_250, b"(1" * 8_500, b"x" * 17_000, b"4111 " * 3_400]
)
def test_no_text_takes_long(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "patterns"
    file.write_text("(x+x+)+y\n(a|aa)+b\n(\\d+ )*;\n")
    redaction = Redaction(PATTERNS, file)
    began = time.process_time()
    redaction.of(text)
    redaction.of_json(b'["\\n",' * 2_400 + b'"\\n' + text)
    assert time.process_time() - began < 0.5, "a backtracking engine needs years"
