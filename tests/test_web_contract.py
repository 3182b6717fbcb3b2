"""Declared routes: parameters are read as their types say, and real answers are what is declared."""

from datetime import date
from typing import Annotated, Any, Literal

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request
from msgspec import Meta

from guarded_site import Guarded, guarded
from streamlens.app import app
from streamlens.keys import ANYONE, Key
from web.access import _KEY
from web.asked import PLACE, Asked, KeysTenant, Moment, Name, Spanned, Step, fields_of, one_of, read, some_of
from web.cursor import token
from web.problem import Problem
from web.routes import Route, routes

__all__ = ["guarded"]


class Spot(msgspec.Struct, frozen=True, array_like=True):
    at_us: Annotated[int, Meta(ge=0)]
    name: Name


class Everything(Spanned, frozen=True, kw_only=True):
    """One parameter of each type."""

    name: Name | None = None
    step_us: Step = msgspec.field(default=60_000_000, name="step")
    at: Moment | None = None
    few: Annotated[int, Meta(ge=1, le=5)] = 3
    big: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    yes: bool = False
    day: date | None = None
    side: Literal["right", "left"] = "left"
    sides: tuple[Literal["right", "left"], ...] = ("right", "left")
    colour: Annotated[str, one_of(("red", "blue"))] | None = None
    colours: Annotated[tuple[str, ...], some_of(("red", "blue"))] = ()
    steps: Annotated[tuple[str, ...], Meta(min_length=2, max_length=3)] = ()
    cursor: Annotated[Spot, PLACE] | None = None


class OfPath(Asked, frozen=True, kw_only=True):
    """A field of the path, and one that has to be given."""

    number: Annotated[int, Meta(ge=0, le=9)]
    needed: Name


def asked(kind: type[Any], query: str, key: Key = ANYONE, **path: str) -> Any:
    """What a request with this query asks for."""
    request = make_mocked_request("GET", f"/{query}", match_info=path)
    request[_KEY] = key
    return read(kind, request)


GOOD = [
    ("", {}),
    ("?name=&few=&yes=&cursor=", {}),
    ("?name=b%C3%B6se+%26+co", {"name": "böse & co"}),
    ("?step=1h", {"step_us": 3_600_000_000}),
    ("?at=1000", {"at": 1_000_000}),
    ("?from=1970-01-01T00:00:01%2B00:00&to=1000", {"from_us": 1_000_000, "to_us": 1_000_000}),
    ("?few=5", {"few": 5}),
    (f"?big={(1 << 63) - 1}", {"big": (1 << 63) - 1}),
    ("?yes=true", {"yes": True}),
    ("?day=2026-11-18", {"day": date(2026, 11, 18)}),
    ("?side=right", {"side": "right"}),
    ("?sides=left,right", {"sides": ("right", "left")}),
    ("?sides=none", {"sides": ()}),
    ("?colour=blue&colours=blue,red", {"colour": "blue", "colours": ("red", "blue")}),
    ("?steps=b,a,b", {"steps": ("b", "a", "b")}),
    (f"?cursor={token(Spot(7, 'ü'))}", {"cursor": Spot(7, "ü")}),
    ("?tenant_id=acme", {"tenant_id": "acme"}),
]


@pytest.mark.parametrize(("query", "values"), GOOD, ids=[query for query, _ in GOOD])
def test_what_is_asked_is_read_as_its_type(query: str, values: dict[str, Any]) -> None:
    assert asked(Everything, query) == Everything(**values)


BAD = {
    "?nothing=1": "unknown parameter; there are at, big, colour, colours, cursor, day, few, from, name, side, sides, "
    "step, steps, tenant_id, to, yes",
    "?few=1&few=1": "given more than once",
    "?few=6": "not an integer from 1 to 5",
    f"?big={1 << 63}": "not an integer from 0 to 9,223,372,036,854,775,807",
    f"?name={'x' * 257}": "not a text of at most 256 characters",
    "?name=%00": "not a text of at most 256 characters",
    "?at=soon": "not an RFC 3339 time with an offset, nor integer epoch milliseconds",
    "?from=2&to=1": "after `to`",
    "?step=60": "not one of 1m, 5m, 1h, 1d",
    "?yes=1": "not one of true, false",
    "?day=2026-02-30": "not a date as 2026-11-18",
    "?side=up": "not one of right, left",
    "?sides=up": "not `none` nor a comma separated choice of right, left",
    "?colour=grey": "not one of red, blue",
    "?colours=red,red": "not `none` nor a comma separated choice of red, blue",
    "?steps=a": "not 2 to 3 comma separated texts of 1 to 256 characters",
    "?steps=a,,b": "not 2 to 3 comma separated texts of 1 to 256 characters",
    "?cursor=x": "not the `next` of an answer",
    f"?cursor={token(Spot(-1, 'a'))}": "not the `next` of an answer",
    "?cursor=%C3%A9": "not the `next` of an answer",
}


@pytest.mark.parametrize("query", BAD, ids=[query[:40] for query in BAD])
def test_what_is_not_of_its_type_is_refused_by_name(query: str) -> None:
    with pytest.raises(Problem) as refused:
        asked(Everything, query)
    assert (refused.value.status, refused.value.field) == (400, query[1:].partition("=")[0])
    assert refused.value.detail == BAD[query]


PATHS = [
    ("?needed=x", "7", None),
    ("", "7", (400, "needed", "required")),
    ("?needed=", "7", (400, "needed", "required")),
    ("?needed=x", "ten", (404, "number", "there is none: `number` is not an integer from 0 to 9")),
    ("?needed=x&number=7", "7", (400, "number", "unknown parameter; there are needed, tenant_id")),
]


@pytest.mark.parametrize(("query", "number", "problem"), PATHS)
def test_fields_of_the_path_come_from_there(query: str, number: str, problem: tuple[int, str, str] | None) -> None:
    if problem is None:
        assert asked(OfPath, query, number=number) == OfPath(number=7, needed="x")
        return
    with pytest.raises(Problem) as refused:
        asked(OfPath, query, number=number)
    assert (refused.value.status, refused.value.field, refused.value.detail) == problem


class Hidden(Asked, frozen=True, kw_only=True):
    """Does not take the tenant."""

    tenant_id: KeysTenant | None = None


def test_a_keys_tenant_is_stamped_whether_it_may_be_named_or_not() -> None:
    key = Key(1, b"", "acme", frozenset(["read"]))
    for kind in (Asked, Hidden, Everything):
        assert asked(kind, "", key).tenant_id == "acme"
        with pytest.raises(Exception, match="tenant"):
            asked(kind, "?tenant_id=other", key)
    with pytest.raises(Problem, match="unknown parameter"):
        asked(Hidden, "?tenant_id=acme")


def test_a_type_that_no_query_has_is_found_when_it_is_declared() -> None:
    with pytest.raises(TypeError, match="no parameter has the type"):
        fields_of(msgspec.defstruct("Wrong", [("ratio", float, 0.5)], bases=(Asked,), frozen=True, kw_only=True))


# -- answers ---------------------------------------------------------------------------------------------------------

QUESTIONS = [route for route in routes(app) if route.method == "GET" and route.contract.query and route.contract.answer]
ASKED = {"/v1/metrics": ["", "?group_by=region", "?group_by=none&step=1d"], "/v1/funnel": ["?steps=/chat"]}


@pytest.mark.parametrize("route", QUESTIONS, ids=[route.pattern for route in QUESTIONS])
async def test_answers_are_what_is_declared(guarded: Guarded, route: Route) -> None:
    for query in ASKED.get(route.pattern, [""]):
        answer = await guarded.ask("GET", route.pattern + query, guarded.secrets[None, str(route.need.scope)])
        assert (answer.status, answer.content_type) == (route.contract.status, route.contract.kinds[0])
        told = msgspec.json.decode(await answer.read(), type=route.contract.answer)
        filled = [field for field in told.__struct_fields__ if getattr(told, field)]
        assert filled, "write rows in tests/guarded_site.py, so that there is something to compare"
