"""Refuses bodies that are little else than empty messages, before millions of objects are made of them.

16 MiB of empty spans would take 1.4 GiB of memory and hold up everybody else for seconds.
"""

from streamlens.errors import BadEvent

_MIN_ITEM_BYTES = 20
"""No span, log record or metric is as small, nor a group of them."""
_MIN_OBJECT_BYTES = 8
"""Nor an object of JSON, on average."""
_FREE = 1_000
"""So many may be as small as they like."""
_PATH = (1, 2, 2)
"""The fields of groups, of scopes and of items, in all three signals."""


def check_json(body: bytes) -> None:
    """Raises `BadEvent` for too many objects."""
    if (count := body.count(b"{")) > _FREE and count * _MIN_OBJECT_BYTES > len(body):
        raise _too_dense()


def check_protobuf(body: bytes) -> None:
    """Raises `BadEvent` for too many groups, scopes and items. Malformed bodies are the parser's to refuse."""
    try:
        _count(body, 0, len(body), 0, max(_FREE, len(body) // _MIN_ITEM_BYTES))
    except IndexError:
        pass  # it ends early


def _count(body: bytes, at: int, end: int, depth: int, most: int) -> int:
    """How many messages there are on the path below a message that is `body[at:end]`."""
    count, next_tag = 0, _PATH[depth] << 3 | 2
    while at < end:
        tag, at = _varint(body, at)
        if tag & 7 == 2:
            size, at = _varint(body, at)
            if tag == next_tag:
                count += 1
                if depth < 2:
                    count += _count(body, at, min(at + size, end), depth + 1, most - count)
                if count > most:
                    raise _too_dense()
            at += size
        elif tag & 7 == 0:
            at = _varint(body, at)[1]
        elif tag & 7 in _FIXED:
            at += _FIXED[tag & 7]
        else:
            raise BadEvent("", "not a protobuf message of OTLP")
    return count


_FIXED = {1: 8, 5: 4}


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    byte = body[at]
    if byte < 0x80:
        return byte, at + 1
    number, shift = byte & 0x7F, 7
    while byte >= 0x80:
        at += 1
        byte = body[at]
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise BadEvent("", "not a protobuf message of OTLP")
    return number, at + 1


def _too_dense() -> BadEvent:
    return BadEvent("", "more items than a body of this size can have")
