"""Takes out of a text what must not be stored, by patterns: built-in ones, and those of `STREAMLENS_REDACT_FILE`.

They run on RE2, whose time is linear in the text whatever the pattern is: it has no look-around and no back-references.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import re2

from streamlens.errors import BadSetting

_ESCAPE = r"\\(?:[bfnrt]|u[0-9A-Fa-f]{4})"
_EDGE = rf"(\b|{_ESCAPE})"
"""Before a word, also in JSON, whose escapes end with a letter or digit. What a group matches stays."""
_KEY = "|".join(
    (
        r"(?:sk|pk|rk|sl)[_\-][A-Za-z0-9_\-]{16,}",
        r"gh[opsru]_[A-Za-z0-9]{30,}",
        r"github_pat_\w{30,}",
        r"xox[abeprs]-[A-Za-z0-9\-]{10,}",
        r"(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"AIza[A-Za-z0-9_\-]{35}",
        r"eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}",
    )
)
_PRIVATE_KEY = r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
PATTERNS = {
    "key": rf"{_EDGE}(?:{_KEY})|{_PRIVATE_KEY}",
    "email": rf"({_ESCAPE})?[\pL\pN._%+\-]+@[\pL\pN\-]+(?:\.[\pL\pN\-]+)+",
    "card": rf"{_EDGE}\d(?:[ \-]?\d){{12,}}\b",
    "phone": rf"(?:\+|{_EDGE}00)[1-9](?:[ ()./\-]{{0,2}}\d){{7,14}}\b"
    rf"|(?:\(|{_EDGE})\d{{3}}\)?[ .\-]\d{{3}}[ .\-]\d{{4}}\b",
}
"""What is built in: secrets of well-known makers, addresses, numbers of cards whose check digit is right, and numbers
of telephones with a country's code or as North America writes them. In this order, as keys have digits too."""

_UNFINISHED = re2.compile(rf"{_EDGE}eyJ[A-Za-z0-9_\-]{{8,}}(?:\.[A-Za-z0-9_\-]*){{0,2}}$")
"""A token that a cut took apart. Of all other keys the beginning is short or is found without the rest."""
_CONTROL = re.compile(rb"[\0-\x1f]")
_SEQUENCE = re.compile(rb"\\(?:u00[01][0-9a-f]|.)")
_ESCAPES = {bytes((code,)): msgspec.json.encode(chr(code))[1:-1] for code in range(0x20)}
_CONTROLS = {escape: control for control, escape in _ESCAPES.items()}
_CARD_DIGITS = range(19, 12, -1)
_DOUBLED = bytes(sum(divmod(2 * digit, 10)) for digit in range(10)).ljust(256, b"\0")

_OWN = "redacted"
_MAX_PATTERNS = 100


class Redaction:
    """Replaces each match by the name of its pattern in brackets."""

    def __init__(self, names: Iterable[str] = (), file: Path | None = None) -> None:
        """`names` are of `PATTERNS`; `file` has one expression a line, in which lines that begin with # say nothing.
        Raises `BadSetting` with the line at fault."""
        chosen = set(names)
        self._patterns: list[tuple[Any, Callable[[Any], bytes]]] = [
            (re2.compile(pattern), _without_cards if name == "card" else _replaced(name))
            for name, pattern in PATTERNS.items()
            if name in chosen
        ]
        self._finds_keys = "key" in chosen
        if file is not None:
            self._patterns += [(pattern, _replaced(_OWN, groups=False)) for pattern in _own(file)]

    def of(self, text: bytes, *, cut: bool = False) -> bytes:
        """UTF-8 without what any pattern finds; `cut`: the text went on, maybe within a secret."""
        for pattern, replaced in self._patterns:
            text = pattern.sub(replaced, text)
        return _UNFINISHED.sub(_replaced("key"), text) if cut and self._finds_keys else text

    def of_json(self, text: bytes, *, cut: bool = False) -> bytes:
        """The same for JSON without white space: line breaks are such for the patterns, and escapes again after."""
        plain = _SEQUENCE.sub(lambda found: _CONTROLS.get(found[0], found[0]), text)
        return _CONTROL.sub(lambda found: _ESCAPES[found[0]], self.of(plain, cut=cut))


def _replaced(name: str, *, groups: bool = True) -> Callable[[Any], bytes]:
    instead = f"[{name}]".encode()

    def replace(match: Any) -> bytes:
        found: bytes = match.group()
        if not found:
            return found
        return b"".join(group or b"" for group in match.groups()) + instead if groups else instead

    return replace


def _without_cards(match: Any) -> bytes:
    """Of numbers in a row, which may be a card's and when it expires: the row if it is a card's number, otherwise the
    longest stretches that are, of groups of three digits or more, since some stretch of a long list always fits."""
    before: bytes = match.group(1)
    run: bytes = match.group()[len(before) :]
    if _is_card(run):
        return before + b"[card]"
    groups = run.replace(b"-", b" ").split(b" ")
    starts = [0]
    for group in groups:
        starts.append(starts[-1] + len(group) + 1)
    found: list[tuple[int, int]] = []
    for length in _CARD_DIGITS:
        for first in range(len(groups)):
            digits, last = 0, first
            while last < len(groups) and len(groups[last]) > 2 and digits < length:
                digits, last = digits + len(groups[last]), last + 1
            if digits == length and _is_card(run[starts[first] : starts[last] - 1]):
                found.append((starts[first], starts[last] - 1))
                groups[first:last] = [b""] * (last - first)
    for start, end in sorted(found, reverse=True):
        run = run[:start] + b"[card]" + run[end:]
    return before + run


def _is_card(number: bytes) -> bool:
    """Whether it is as long as those of cards and its last digit that of ISO/IEC 7812-1, annex B, which that of other
    long numbers mostly is not."""
    reverse = bytes(digit - 0x30 for digit in reversed(number[:40]) if digit >= 0x30)
    return (
        len(number) < 40
        and len(reverse) in _CARD_DIGITS
        and not (sum(reverse[::2]) + sum(reverse[1::2].translate(_DOUBLED))) % 10
    )


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
