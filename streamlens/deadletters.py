"""Dead letters: events that the log has taken and that can't be counted, each with the reason and its bytes.

A letter's name is where its event stands: topic, partition, offset. One that is published twice is the same letter.
"""

from datetime import datetime
from typing import Literal, get_args

import msgspec

from streamlens.log import TP, Log, Run
from streamlens.topics import DEAD_LETTERS

Reason = Literal["malformed", "invalid", "future", "late"]
"""Why, in one word. A new one needs its line in `docs/operations.md`.

malformed: not a JSON object in UTF-8. invalid: a field is missing or wrong. future: its time was too far ahead of the
clock. late: it was older than the allowed lateness when it was read.
"""
REASONS: tuple[Reason, ...] = get_args(Reason)

MAX_ORIGINAL_BYTES = 1 << 20
"""Of an event's bytes in its letter; what is longer is cut, and marked as cut."""

_READ_BYTES = 256 << 10
_MAX_NAME = 256


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the topic. `time` is when it was found, `value` the event's bytes."""

    topic: str
    partition: int
    offset: int
    reason: str
    field: str = ""
    detail: str = ""
    time: datetime
    tenant_id: str = ""
    """"" when the bytes do not tell it."""
    value: bytes
    truncated: bool = False


encode_letter = msgspec.json.Encoder().encode
_decode_letter = msgspec.json.Decoder(Letter).decode


class _Named(msgspec.Struct, frozen=True, gc=False):
    tenant_id: object = None


_decode_named = msgspec.json.Decoder(_Named).decode


def decode_letter(record: bytes) -> Letter | None:
    """A letter as it was published; None for what is none: on Kafka anybody can write to the topic."""
    try:
        letter = _decode_letter(record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return letter if letter.time.tzinfo is not None else None


def tenant_of(original: bytes) -> str:
    """The tenant that an event names, however wrong the rest of it is; "" when it names none that can be one."""
    try:
        tenant_id = _decode_named(original).tenant_id
        if not isinstance(tenant_id, str) or len(tenant_id) > _MAX_NAME or "\x00" in tenant_id:
            return ""
        tenant_id.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    return tenant_id


class LetterReader:
    """Letters by their offset in the dead letters' topic, of which every partition is that of the letters' events."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._bounds: dict[TP, tuple[int, int]] = {}
        self._runs: dict[TP, Run] = {}

    async def read(self, origin: TP, origin_offset: int, offset: int) -> Letter | None:
        """The letter of an event, at `offset` of the topic; None when it is not kept any more. Raises `Unavailable`."""
        tp = TP(DEAD_LETTERS, origin.partition)
        if tp not in self._bounds:
            self._bounds |= await self._log.offsets([tp])
        start, end = self._bounds[tp]
        if not start <= offset < end:
            return None
        run = self._runs.get(tp)
        if run is None or not run.first <= offset < run.next:  # letters of one time lie side by side
            run = self._runs[tp] = await self._log.read(tp, offset, _READ_BYTES)
        at = offset - run.first
        letter = decode_letter(run.values[at]) if at < len(run.values) else None
        return letter if letter is not None and (letter.topic, letter.offset) == (origin.topic, origin_offset) else None
