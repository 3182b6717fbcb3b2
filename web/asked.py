"""What questions ask for, as types: each route has a frozen struct of its parameters, which `read` fills.

The struct is all there is to declare: its fields' types say what is refused, and the reference is made from them.
Fields that the route's path names (`/v1/calls/{request_id}`) come from there.
"""

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from aiohttp import web
from msgspec import Meta, inspect

from streamlens.fields import MAX_TIME_US
from web.cursor import opened
from web.parameters import Parameters
from web.problem import Problem

_T = TypeVar("_T")
_Read = Callable[[Parameters, str], Any]

STEPS_US = {"1m": 60_000_000, "5m": 300_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}


def reads(read: _Read, description: str = "", names: Mapping[str, Any] | None = None, **schema: Any) -> Meta:
    """A type with a verb of its own: `read(parameters, field)` gives the value. `schema` is the JSON Schema of what may
    be asked for; `names`: what values are called there, if not as in JSON."""
    return Meta(description=description or None, extra={"read": read, "names": names or {}, "schema": schema})


def one_of(choices: Collection[str], description: str = "") -> Meta:
    """A `str` that is one of `choices`. Those that are known to the type checker are a `Literal` instead."""
    return reads(lambda asked, field: asked.one_of(field, choices), description, type="string", enum=list(choices))


def named(choices: Mapping[str, int], description: str = "") -> Meta:
    """An `int` that is asked for by its name."""
    schema = {"type": "string", "enum": list(choices)}
    return reads(lambda asked, field: choices[asked.one_of(field, choices)], description, choices, **schema)


def some_of(choices: Collection[str], description: str = "") -> Meta:
    """A `tuple[str, ...]` of some of `choices`, comma separated; "none" is the empty one."""
    items = {"type": "string", "enum": [*choices, "none"]}
    return reads(lambda asked, field: asked.some_of(field, choices), description, type="array", items=items)


PLACE = Meta(description="The `next` of the answer before; goes on after it", extra={"place": True})
"""Marks a struct that `web.cursor.token` makes a text of."""

Name = Annotated[str, Meta(max_length=256)]
Tenant = Annotated[str, Meta(max_length=256, description="Of this tenant alone; a tenant's key means its own")]
KeysTenant = Annotated[str, Meta(extra={"hidden": True})]
"""For routes without the parameter `tenant_id`: that of the key, where it is for one."""
Moment = Annotated[
    int,
    reads(
        Parameters.time_us,
        "RFC 3339 with an offset, or integer epoch milliseconds",
        anyOf=[
            {"type": "string", "format": "date-time"},
            {"type": "integer", "minimum": 0, "exclusiveMaximum": MAX_TIME_US // 1000},
        ],
    ),
]
"""Epoch microseconds, once it is read."""
Step = Annotated[int, named(STEPS_US, "Of windows")]
"""Microseconds, once it is read."""
Limit = Annotated[int, Meta(ge=1, le=10_000, description="So many rows at most")]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Every question has a tenant, None for all: a tenant's key stamps its own. Fields without a default are required.

    Types besides those above: `str`, `bool`, `datetime.date`, `Literal` of texts, `Annotated[int, Meta(ge=…, le=…)]`,
    and comma separated ones: `tuple[Literal[…], ...]`, `Annotated[tuple[str, ...], Meta(min_length=…, max_length=…)]`.
    """

    tenant_id: Tenant | None = None


class Spanned(Asked, frozen=True, kw_only=True):
    """What begins in [from, to), open where they are None."""

    from_us: Moment | None = msgspec.field(default=None, name="from")
    to_us: Moment | None = msgspec.field(default=None, name="to")

    def __post_init__(self) -> None:
        if self.from_us is not None and self.to_us is not None and self.from_us > self.to_us:
            raise Problem(400, "after `to`", field="from")


class Field(NamedTuple):
    """A field of a struct and how it is read."""

    name: str
    """As it is asked for."""
    attribute: str
    read: _Read
    required: bool
    hidden: bool
    place: bool
    """Where a list goes on: the `next` of the answer before."""
    schema: Mapping[str, Any] | None
    """Of what may be asked for, where its type does not say it."""
    default: Any
    """As it is asked for, None where there is nothing to ask for."""


def read(kind: type[_T], request: web.Request, *others: str) -> _T:
    """The `kind`, a subclass of `Asked`, that a request asks for. `others` are parameters that somebody else reads.

    Raises `Problem` 400 with the field, or 404 when it is one of the path.
    """
    fields = fields_of(kind)  # type: ignore[arg-type]  # mypy takes a class for one of its instances here
    parameters = Parameters(request, (*others, *(field.name for field in fields if not field.hidden)))
    values = {}
    for field in fields:
        if parameters.given(field.name):
            try:
                values[field.attribute] = field.read(parameters, field.name)
            except Problem as problem:
                if field.name not in request.match_info:
                    raise
                raise Problem(404, f"there is none: `{field.name}` is {problem.detail}", field=field.name) from None
        elif field.required:
            raise Problem(400, "required", field=field.name)
    return kind(**values)


@cache
def fields_of(kind: type[Any]) -> tuple[Field, ...]:
    """The fields of a subclass of `Asked`. Raises `TypeError` for a type that no query has."""
    (struct,) = inspect.multi_type_info([kind])
    assert isinstance(struct, inspect.StructType)
    hints = get_type_hints(kind, include_extras=True)
    fields = []
    for field in struct.fields:
        known, extra = _plain(field.type)
        read = extra.get("read") or _read_of(known, _choices(hints[field.name]), place="place" in extra)
        default = {value: name for name, value in extra.get("names", {}).items()}.get(field.default, field.default)
        fields.append(
            Field(
                name=field.encode_name,
                attribute=field.name,
                read=read,
                required=field.required,
                hidden="hidden" in extra,
                place="place" in extra,
                schema={"type": "string"} if "place" in extra else extra.get("schema"),
                default=None if field.required or "place" in extra or default == () else default,
            )
        )
    return tuple(fields)


def _plain(kind: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    """A type without None and what is said about it, and what is."""
    said: dict[str, Any] = {}
    while isinstance(kind, inspect.UnionType | inspect.Metadata):
        if isinstance(kind, inspect.Metadata):
            said |= kind.extra or {}
            kind = kind.type
        else:
            (kind,) = (each for each in kind.types if not isinstance(each, inspect.NoneType))
    return kind, said


def _choices(hint: Any) -> tuple[str, ...]:
    """Those of the `Literal` in a type, in the order in which it names them; msgspec sorts them."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next((found for each in get_args(hint) if (found := _choices(each))), ())


def _read_of(kind: inspect.Type, choices: tuple[str, ...], *, place: bool) -> _Read:
    match kind:
        case inspect.StructType(cls=cls) if place:
            return lambda asked, field: opened(field, asked.place(field), cls)
        case inspect.StrType():
            return lambda asked, field: asked.name(field)
        case inspect.IntType(ge=int(low), le=int(high)):
            return lambda asked, field: asked.count(field, low, high)
        case inspect.BoolType():
            return lambda asked, field: asked.one_of(field, ("true", "false")) == "true"
        case inspect.DateType():
            return lambda asked, field: asked.date(field)
        case inspect.LiteralType():
            return lambda asked, field: asked.one_of(field, choices)
        case inspect.VarTupleType(item_type=inspect.LiteralType()):
            return lambda asked, field: asked.some_of(field, choices)
        case inspect.VarTupleType(item_type=inspect.StrType(), min_length=int(low), max_length=int(high)):
            return lambda asked, field: asked.texts(field, low, high)
    raise TypeError(f"no parameter has the type {kind}")
