"""Dead letters on their way out: each rests in the state until its topic has acknowledged it.

Keys: b"d" + topic/partition/offset -> the record, JSON. So a letter's name is its origin, and one that is
published twice is the same letter.
"""

import base64
from datetime import UTC, datetime

import orjson

from streamlens.checkpoint.state import State
from streamlens.errors import BadEvent
from streamlens.log import TP
from streamlens.metrics import DEAD_LETTERS

PREFIX = b"d"
_END = b"e"
_MAX_ORIGINAL_BYTES = 1 << 20


class Letters:
    """Events that can't be counted, with the reason."""

    def __init__(self) -> None:
        self._state: State
        self._new: dict[bytes, bytes] = {}
        self._sent: list[bytes] = []

    def open(self, state: State) -> None:
        self._state = state
        self._sent = [key for key, _ in state.scan(PREFIX, _END)]

    def add(self, tp: TP, offset: int, original: bytes, reason: str, error: BadEvent, now_us: int) -> None:
        """Keep an event with its original bytes; beyond 1 MiB they are cut, and marked as cut."""
        DEAD_LETTERS.labels(reason).inc()
        key = PREFIX + f"{tp.topic}/{tp.partition}/{offset}".encode()
        self._new[key] = orjson.dumps(
            {
                "topic": tp.topic,
                "partition": tp.partition,
                "offset": offset,
                "reason": reason,
                "field": error.field,
                "detail": error.detail[:500],
                "time": datetime.fromtimestamp(now_us / 1e6, UTC).isoformat(timespec="milliseconds"),
                "value": base64.b64encode(original[:_MAX_ORIGINAL_BYTES]).decode(),
                "truncated": len(original) > _MAX_ORIGINAL_BYTES,
            }
        )

    def flush(self) -> None:
        """Put new letters into the state and drop those of the epoch before, which are acknowledged by now."""
        for key in self._sent:
            self._state.delete(key)
        for key, record in self._new.items():
            self._state.put(key, record)
        self._sent, self._new = list(self._new), {}
