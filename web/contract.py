"""What a view's method takes and answers, declared on it, once: for validation, the reference and the tests.

`asks` is for questions: it reads the parameters and renders what the method returns. `declares` only says what a
method does that reads and answers by itself. Who may ask is in `web/access.py`, and `web/routes.py` joins the two.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar

import msgspec
import orjson
from aiohttp import web

from web.asked import Asked, fields_of, read

JSON = "application/json"
Time = datetime
"""RFC 3339, in UTC."""
_Q = TypeVar("_Q", bound=Asked)
_F = TypeVar("_F", bound=Callable[..., Awaitable[web.StreamResponse]])


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer, or a row of one. Nothing builds them: rows of Postgres are dicts. Tests decode real answers as what is
    declared, so that none has a field more or less."""


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """`query`: an `Asked`, None where parameters are not looked at. `body`: what each event or the whole body is, by
    content type. `answer`: an `Answer`, None where it is not JSON; `kinds` are its content types. `statuses`: what may
    go wrong besides what the other fields tell."""

    query: type[Asked] | None = None
    body: Any = None
    answer: Any = None
    status: int = 200
    kinds: tuple[str, ...] = (JSON,)
    statuses: tuple[int, ...] = ()


def asks(
    query: type[_Q], answer: type[Answer], **more: Any
) -> Callable[[Callable[[Any, _Q], Awaitable[Mapping[str, Any]]]], Callable[..., Awaitable[web.StreamResponse]]]:
    """For a method that gets the parameters, as a `query`, and returns an `answer`, as what JSON can be made of.

    `more` are fields of `Contract`. Raises `TypeError` when no parameter can be what a field of `query` is.
    """
    fields_of(query)
    contract = Contract(query=query, answer=answer, **more)

    def declare(
        method: Callable[[Any, _Q], Awaitable[Mapping[str, Any]]],
    ) -> Callable[..., Awaitable[web.StreamResponse]]:
        @wraps(method)
        async def view(self: Any, request: web.Request, **_: str) -> web.StreamResponse:
            found = await method(self, read(query, request))
            return web.Response(status=contract.status, body=orjson.dumps(found), content_type=JSON)

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
