"""Query parameters, strictly: what is unknown, repeated or malformed is refused by name, never guessed.

Routes declare theirs as types (`web.asked`), for each of which there is a verb here.
"""

from collections.abc import Collection, Iterable
from datetime import date, datetime
from typing import Annotated

import msgspec
from aiohttp import web

from streamlens.events import time_us
from streamlens.fields import MAX_TIME_US
from web.access import key_of
from web.problem import Problem

_MAX_NAME = 256
_MAX_PLACE = 8_000
_Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class Parameters:
    """The query of one request, and what is `known` of its path. An empty value counts as not given. The verbs are for
    what is given, and raise `Problem` 400 with the field.

    A key's tenant is the `tenant_id` of every question asked with it, whether the route knows that parameter or not.
    """

    def __init__(self, request: web.Request, known: Iterable[str]) -> None:
        self._values: dict[str, str] = {}
        known = set(known)
        names = sorted(known - set(request.match_info))
        own = key_of(request).tenant_id
        if own is not None:
            for given in request.query.getall("tenant_id", ()):
                key_of(request).must_own(given or own)
        for name, value in request.query.items():
            if name not in names:
                raise _bad(name[:64], f"unknown parameter; there are {', '.join(names) or 'none'}")
            if name in self._values:
                raise _bad(name, "given more than once")
            self._values[name] = value
        if own is not None:
            self._values["tenant_id"] = own
        self._values.update((name, value) for name, value in request.match_info.items() if name in known)

    def given(self, field: str) -> bool:
        """Whether there is anything to read."""
        return bool(self._values.get(field))

    def name(self, field: str) -> str:
        """A name of the events' contract: at most 256 characters, no NUL."""
        value = self._values[field]
        if len(value) > _MAX_NAME or not _is_text(value):
            raise _bad(field, f"not a text of at most {_MAX_NAME} characters")
        return value

    def place(self, field: str) -> str:
        """A text of `web.cursor.token`, which holds several names."""
        value = self._values[field]
        if len(value) > _MAX_PLACE:
            raise _bad(field, f"not a text of at most {_MAX_PLACE:,} characters")
        return value

    def time_us(self, field: str) -> int:
        """Epoch microseconds of an event time: RFC 3339 with an offset, or integer epoch milliseconds."""
        value = self._values[field]
        if value.isascii() and value.isdigit() and len(value) <= 15:
            us = int(value) * 1000
        else:
            # A client that forgot to encode "+01:00" has sent " 01:00".
            text = value[:11] + value[11:].replace(" ", "+")
            try:
                us = time_us(msgspec.convert(text, _Aware))
            except (msgspec.ValidationError, UnicodeEncodeError):
                raise _bad(field, "not an RFC 3339 time with an offset, nor integer epoch milliseconds") from None
        if not 0 <= us < MAX_TIME_US:
            raise _bad(field, "not between the years 1970 and 9999")
        return us

    def one_of(self, field: str, choices: Collection[str]) -> str:
        """One of the names in `choices`."""
        value = self._values[field]
        if value not in choices:
            raise _bad(field, f"not one of {', '.join(choices)}")
        return value

    def some_of(self, field: str, choices: Collection[str]) -> tuple[str, ...]:
        """A comma separated choice of `choices`, in their order; "none" is the empty one."""
        value = self._values[field]
        given = [] if value == "none" else value.split(",")
        if len(set(given)) < len(given) or not set(given) <= set(choices):
            raise _bad(field, f"not `none` nor a comma separated choice of {', '.join(choices)}")
        return tuple(choice for choice in choices if choice in given)

    def date(self, field: str) -> date:
        """A day, as 2026-11-18."""
        try:
            return msgspec.convert(self._values[field], date)
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise _bad(field, "not a date as 2026-11-18") from None

    def texts(self, field: str, low: int, high: int) -> tuple[str, ...]:
        """From `low` to `high` names, comma separated."""
        names = self._values[field].split(",")
        if not low <= len(names) <= high or any(not 0 < len(name) <= _MAX_NAME or not _is_text(name) for name in names):
            raise _bad(field, f"not {low} to {high} comma separated texts of 1 to {_MAX_NAME} characters")
        return tuple(names)

    def count(self, field: str, low: int, high: int) -> int:
        """An integer from `low` to `high`."""
        value = self._values[field]
        digits = max(9, len(str(high)))
        if not (value.isascii() and value.isdigit() and len(value) <= digits and low <= int(value) <= high):
            raise _bad(field, f"not an integer from {low:,} to {high:,}")
        return int(value)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in value


def _bad(field: str, detail: str) -> Problem:
    return Problem(400, detail, field=field)
