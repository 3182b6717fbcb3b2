"""Attribute values, ids, times and resources, out of messages of either form."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from math import nan
from typing import Any, NamedTuple

import orjson

from streamlens.dialects import RESOURCE
from streamlens.errors import BadEvent
from streamlens.mappings import DEFAULT_TENANT

Value = str | int | float | bool | list[Any] | dict[str, Any] | None
_MAX_DEPTH = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Resource(NamedTuple):
    """What is known of all that a resource has sent; "" or None where nothing is."""

    tenant_id: str
    """Whose it is, unless an item says otherwise."""
    route: str
    service: str
    region: str | None

    @classmethod
    def of(cls, resource: Any, key_tenant: str | None) -> "Resource":
        """`key_tenant`: the tenant of the key with which it came."""
        said = attributes_of(resource and resource.attributes, _RESOURCE_NAMES)
        found = {
            field: next((str(said[name]) for name in names if said.get(name) not in (None, "")), "")
            for field, names in RESOURCE.items()
        }
        tenant_id = found["tenant_id"] or key_tenant or found["namespace"] or DEFAULT_TENANT
        return cls(tenant_id, found["route"], found["service"], found["region"] or None)


_RESOURCE_NAMES = frozenset(name for names in RESOURCE.values() for name in names)


def attributes_of(pairs: Iterable[Any] | None, names: frozenset[str] | None = None) -> dict[str, Value]:
    """The attributes that are called one of `names`, or all; those without a value are left out. The first of a name
    counts."""
    found: dict[str, Value] = {}
    for pair in pairs or ():
        key = pair.key
        if (names is None or key in names) and key not in found:
            value = value_of(pair.value)
            if value is not None:
                found[key] = value
    return found


def value_of(value: Any, depth: int = _MAX_DEPTH) -> Value:
    """What an `AnyValue` holds; what is nested more than `depth` deep is left out, and so are bytes."""
    if value is None:
        return None
    if text := value.string_value:  # most are texts or numbers, and asking which one it is takes as long as reading it
        return text  # type: ignore[no-any-return]
    if number := value.int_value:
        return number  # type: ignore[no-any-return]
    kind = value.WhichOneof("value")
    if kind == "string_value" or kind == "int_value" or kind == "bool_value":
        return getattr(value, kind)  # type: ignore[no-any-return]
    if kind == "double_value":
        return float_of(value.double_value)
    if depth == 0:
        return None
    if kind == "array_value":
        return [value_of(each, depth - 1) for each in value.array_value.values or ()]
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value, depth - 1) for pair in value.kvlist_value.values or ()}
    return None


def float_of(value: float | str) -> float:
    """A float, which JSON may have as a text; NaN for a text that is no number."""
    try:
        return float(value)
    except ValueError:
        return nan


def text_of(value: Value) -> str:
    """A text for whatever an attribute or body may be."""
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value, default=str).decode()


def hex_of(id: bytes | str | None) -> str:
    """An id as hexadecimal digits."""
    return (id.hex() if isinstance(id, bytes) else id.lower()) if id else ""


def checked_hex(field: str, id: bytes | str | None, size: int) -> str:
    """The same for an id of `size` bytes. Raises `BadEvent` for another size, no digits, or zeros only."""
    if isinstance(id, bytes):
        if len(id) == size and any(id):
            return id.hex()
    else:
        digits = hex_of(id)
        if len(digits) == 2 * size and digits.strip("0") and not digits.strip("0123456789abcdef"):
            return digits
    raise BadEvent(field, f"not {2 * size} hexadecimal digits that are not all 0")


def moment(nanos: int) -> datetime:
    """A time in epoch nanoseconds. Raises `BadEvent` when there is no such year."""
    try:
        return _EPOCH + timedelta(microseconds=nanos // 1000)
    except OverflowError:
        raise BadEvent("timestamp", "not between the years 2000 and 9999") from None
