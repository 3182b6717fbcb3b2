"""What a view's method takes and answers, declared on it, once: for validation, the reference and the tests.

`asks` is for questions: it reads the parameters and renders what the method returns. `declares` only says what a
method does that reads and answers by itself. Who may ask is in `web/access.py`; `web/routes.py` joins the two.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson
from aiohttp import web
from msgspec import inspect

from web.asked import Asked, fields_of, read
from web.export import exported, format_of

JSON = "application/json"
Time = datetime
"""RFC 3339, in UTC."""
MAX_LINK = 2_000
"""Characters. Many clients and proxies refuse an answer whose headers are long, and JSON has its `next` anyway."""
_Q = TypeVar("_Q", bound=Asked)
_F = TypeVar("_F", bound=Callable[..., Awaitable[web.StreamResponse]])
_Method = Callable[[Any, _Q], Awaitable[Mapping[str, Any]]]


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer, or a row of one. Nothing builds them: rows of Postgres are dicts. Tests decode real answers as what is
    declared, so that none has a field more or less."""


class Rows(NamedTuple):
    """The list of an answer that can be had as CSV or NDJSON: its field, and the columns of a row."""

    field: str
    columns: Sequence[str]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: an `event`, None where it is in words that others have specified; with `many` also an array of
    them, or one a line. `examples` are sent by the tests."""

    event: Any = None
    many: bool = False
    kinds: tuple[str, ...] = (JSON,)
    examples: Sequence[Mapping[str, Any]] = ()


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """`query`: an `Asked`, None where parameters are not looked at. `body`: a `Body`, or what makes one of the view's
    class. `answer`: an `Answer`, None where it is not JSON; `kinds` are its content types. `others`: what else may be
    answered, by status: the type of an answer, or None for a problem that the other fields do not tell of."""

    query: type[Asked] | None = None
    body: Body | Callable[[Any], Body] | None = None
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    kinds: tuple[str, ...] = (JSON,)
    others: Mapping[int, Any] = {}
    rows: Rows | None = None


def asks(query: type[_Q], answer: type[Answer], **more: Any) -> Callable[[_Method[_Q]], _F]:
    """For a method that gets the parameters, as a `query`, and returns an `answer`, as what JSON can be made of.

    `more` are fields of `Contract`. Raises `TypeError` when no parameter can be what a field of `query` is.
    """
    goes_on = next((field.name for field in fields_of(query) if field.place), None)

    def declare(method: _Method[_Q]) -> Any:
        rows = _rows_of(answer) if method.__name__ == "get" else None
        contract = Contract(query=query, answer=answer, rows=rows, **more)
        others = ("format",) if rows else ()

        @wraps(method)
        async def view(self: Any, request: web.Request, **_: str) -> web.StreamResponse:
            asked = read(query, request, *others)
            form = format_of(request) if rows else "json"
            found = await method(self, asked)
            headers = {"Vary": "Accept"} if rows else {}
            if goes_on and found.get("next"):
                link = str(request.rel_url.update_query({goes_on: found["next"]}))
                if len(link) <= MAX_LINK or form != "json":  # there it is nowhere else
                    headers["Link"] = f'<{link}>; rel="next"'
            if form == "json" or rows is None:
                body = orjson.dumps(found)
                return web.Response(status=contract.status, body=body, content_type=JSON, headers=headers)
            return await exported(request, form, rows.field, rows.columns, found[rows.field], headers)

        view.contract = contract  # type: ignore[attr-defined]
        return view

    return declare


def declares(**fields: Any) -> Callable[[_F], _F]:
    """For a method that reads (`web.asked.read`) and answers by itself: the fields of its `Contract`."""
    contract = Contract(**fields)

    def declare(method: _F) -> _F:
        method.contract = contract  # type: ignore[attr-defined]
        return method

    return declare


def _rows_of(answer: type[Answer]) -> Rows | None:
    """The one list of structs that an answer has."""
    (struct,) = inspect.multi_type_info([answer])
    assert isinstance(struct, inspect.StructType)
    lists = [
        Rows(field.encode_name, [column.encode_name for column in field.type.item_type.fields])
        for field in struct.fields
        if isinstance(field.type, inspect.ListType) and isinstance(field.type.item_type, inspect.StructType)
    ]
    return lists[0] if len(lists) == 1 else None
