"""Where a list goes on: the place of the last row, as a text that is nobody's but ours to read.

Lists are continued by the key of their order, never by counting rows, so rows that come in between move nothing.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from streamlens.postgres.windows import Place
from web.problem import Problem

_T = TypeVar("_T")


def token(place: msgspec.Struct) -> str:
    """The text for a place: a struct with `array_like=True`, whose fields are bounded types."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def after(rows: Sequence[Any], limit: int, place_of: Callable[[Any], msgspec.Struct]) -> str | None:
    """The `next` of a list: the text for its last row's place, None when it has fewer rows than were asked for."""
    return token(place_of(rows[-1])) if len(rows) >= limit else None


def follows(place: Place | None, step_us: int, columns: Sequence[str], **of: str | None) -> None:
    """Raises `Problem` 400 for a place in a list of another step or columns, or whose columns are not as in `of`."""
    if place is None:
        return
    if not place.is_of(step_us, columns) or any(place.names.get(name) != value for name, value in of.items()):
        raise Problem(400, "the `next` of another question", field="cursor")


def opened(field: str, text: str, kind: type[_T]) -> _T:
    """The place that a text stands for. Raises `Problem` 400 with the field for any but those of `token`."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text.encode("ascii") + b"=="), type=kind)
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise Problem(400, "not the `next` of an answer", field=field) from None
