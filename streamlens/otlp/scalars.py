"""Attributes as an observation may have them: so many, so large, and nothing nested."""

from streamlens.observations import MAX_SCALARS_BYTES
from streamlens.otlp.values import Value, text_of

_MAX_TEXT = 1024
_PER_ENTRY = 8
"""Quotes, colon and comma of an entry as JSON."""


def bounded(said: dict[str, Value], max_entries: int) -> dict[str, str | int | float | bool]:
    """The first ones that fit into `max_entries` and `MAX_SCALARS_BYTES`; lists and objects as JSON, long texts cut.
    Telemetry is full of prompts: what does not fit is left out, so that the rest counts."""
    found: dict[str, str | int | float | bool] = {}
    room = MAX_SCALARS_BYTES - 2
    for key, value in said.items():
        if len(found) == max_entries:
            break
        scalar = value if isinstance(value, int | float) else text_of(value).replace("\0", "")[:_MAX_TEXT]
        size = len(key.encode()) + len(str(scalar).encode()) + _PER_ENTRY
        if isinstance(scalar, str):
            size += sum(map(scalar.count, '"\\\n\r\t'))
        if size <= room and "\0" not in key:
            room -= size
            found[key] = scalar
    return found
