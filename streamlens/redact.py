"""Takes out of a text what must not be stored, by patterns: built-in ones, and those of `STREAMLENS_REDACT_FILE`.

They run on RE2, whose time is linear in the text whatever the pattern is: it has no look-around and no back-references.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import re2

from streamlens.errors import BadSetting

_KEY = "|".join(
    (
        r"\b(?:sk|pk|rk|sl)[_\-][A-Za-z0-9_\-]{16,}",
        r"\bgh[opsru]_[A-Za-z0-9]{30,}",
        r"\bgithub_pat_\w{30,}",
        r"\bxox[abeprs]-[A-Za-z0-9\-]{10,}",
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\bAIza[A-Za-z0-9_\-]{35}",
        r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
    )
)
PATTERNS = {
    "key": _KEY,
    "email": r"[\pL\pN._%+\-]+@[\pL\pN\-]+(?:\.[\pL\pN\-]+)+",
    "card": r"\b(?:\d[ \-]?){12,18}\d\b",
    "phone": r"(?:\+|\b00)[1-9](?:[ ()./\-]{0,2}\d){7,14}\b|\(?\b\d{3}\)?[ .\-]\d{3}[ .\-]\d{4}\b",
}
"""What is built in: secrets of well-known makers, addresses, numbers of cards whose check digit is right, and numbers
of telephones with a country's code or as North America writes them. In this order, as keys have digits too."""

_OWN = "redacted"
_MAX_PATTERNS = 100


class Redaction:
    """Replaces each match by the name of its pattern in brackets."""

    def __init__(self, names: Iterable[str] = (), file: Path | None = None) -> None:
        """`names` are of `PATTERNS`; `file` has one expression a line, in which lines that begin with # say nothing.
        Raises `BadSetting` with the line at fault."""
        chosen = set(names)
        self._patterns: list[tuple[Any, Callable[[Any], bytes]]] = [
            (re2.compile(pattern), _replaced(name)) for name, pattern in PATTERNS.items() if name in chosen
        ]
        if file is not None:
            self._patterns += [(pattern, _replaced(_OWN)) for pattern in _own(file)]

    def of(self, text: bytes) -> bytes:
        """UTF-8 without what any pattern finds."""
        for pattern, replaced in self._patterns:
            text = pattern.sub(replaced, text)
        return text


def _replaced(name: str) -> Callable[[Any], bytes]:
    instead = f"[{name}]".encode()

    def replace(match: Any) -> bytes:
        found: bytes = match.group()
        return instead if found and (name != "card" or _is_card(found)) else found

    return replace


def _is_card(digits: bytes) -> bool:
    """Whether the last digit is that of ISO/IEC 7812-1, annex B: other long numbers mostly fail it."""
    reverse = [digit - 0x30 for digit in reversed(digits) if 0x30 <= digit <= 0x39]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in reverse[1::2])
    return (sum(reverse[::2]) + doubled) % 10 == 0


def _own(file: Path) -> Iterable[Any]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"STREAMLENS_REDACT_FILE: {file}: {getattr(error, 'strerror', None) or error}") from None
    patterns = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if len(patterns) > _MAX_PATTERNS:
        raise BadSetting(f"STREAMLENS_REDACT_FILE: more than {_MAX_PATTERNS} expressions")
    quiet = re2.Options()
    quiet.log_errors = False
    for number, line in patterns:
        try:
            pattern = re2.compile(line, quiet)
        except re2.error as error:
            reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
            raise BadSetting(f"STREAMLENS_REDACT_FILE: line {number}: {reason}") from None
        if pattern.search(""):
            raise BadSetting(f"STREAMLENS_REDACT_FILE: line {number}: it matches the empty text")
        yield pattern
