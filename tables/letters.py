"""Dead letters on their way out: each rests in the state until its topic has acknowledged it.

Keys: b"d" + topic/partition/offset -> the record, JSON. So a letter's name is its origin, and one that is
published twice is the same letter.
"""

from datetime import UTC, datetime

from streamlens.checkpoint.state import State
from streamlens.deadletters import MAX_ORIGINAL_BYTES, REASONS, Letter, Reason, encode_letter, tenant_of
from streamlens.errors import BadEvent
from streamlens.log import TP
from streamlens.metrics import DEAD_LETTERS

PREFIX = b"d"
_END = b"e"

for _reason in REASONS:
    DEAD_LETTERS.labels(_reason)  # a rate can be asked for before the first one


class Letters:
    """Events that can't be counted, with the reason."""

    def __init__(self) -> None:
        self._state: State
        self._new: dict[bytes, bytes] = {}
        self._sent: list[bytes] = []

    def open(self, state: State) -> None:
        self._state = state
        self._sent = [key for key, _ in state.scan(PREFIX, _END)]

    def add(self, tp: TP, offset: int, original: bytes, reason: Reason, error: BadEvent, now_us: int) -> None:
        """Keep an event with its original bytes; beyond 1 MiB they are cut, and marked as cut."""
        DEAD_LETTERS.labels(reason).inc()
        key = PREFIX + f"{tp.topic}/{tp.partition}/{offset}".encode()
        self._new[key] = encode_letter(
            Letter(
                topic=tp.topic,
                partition=tp.partition,
                offset=offset,
                reason=reason,
                field=error.field,
                detail=error.detail[:500],
                time=datetime.fromtimestamp(now_us // 1000 / 1000, UTC),
                tenant_id=tenant_of(original),
                value=original[:MAX_ORIGINAL_BYTES],
                truncated=len(original) > MAX_ORIGINAL_BYTES,
            )
        )

    def flush(self) -> None:
        """Put new letters into the state and drop those of the epoch before, which are acknowledged by now."""
        for key in self._sent:
            self._state.delete(key)
        for key, record in self._new.items():
            self._state.put(key, record)
        self._sent, self._new = list(self._new), {}
