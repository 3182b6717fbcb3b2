"""Which dead letters' events would count now, and sending those again: to their topic and partition, as they were.

What was sent is remembered by its bytes (`streamlens.postgres.letters.mark`), so a letter that comes of a replay is not
replayed again; what was sent and is not yet remembered counts once, as every repeated event does.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

import asyncpg
import msgspec

from streamlens.deadletters import LetterReader
from streamlens.errors import BadEvent
from streamlens.events import decode, time_us
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Record
from streamlens.mappings import record_key
from streamlens.settings import Settings
from streamlens.topics import SOURCES

Fate = Literal["sent", "late_again", "bad_again", "truncated", "same", "gone"]
"""What becomes of a letter in a replay. Only the first is sent, and remembered.

late_again: it would be late again. bad_again: it is not valid, or too far in the future, still. truncated: its letter
has not all of it. same: the same bytes as another letter of this batch. gone: the topic does not keep it any more.
"""
FATES: tuple[Fate, ...] = get_args(Fate)

MAX_BATCH_BYTES = 4 << 20
TURN_LETTERS = 50
"""After so many, a few milliseconds' work, other tasks get a turn."""


class Batch(msgspec.Struct):
    """The fates of letters, in their order, and the events to send, by their digest."""

    fates: list[Fate]
    events: dict[TP, dict[bytes, Record]]

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(self.fates)
        return {fate: found[fate] for fate in FATES}


async def judge(log: Log, rows: Sequence[asyncpg.Record], settings: Settings, now_us: int) -> Batch:
    """The fates of the first letters of the index' `rows`, up to 4 MiB of events. Raises `Unavailable`."""
    letters, size = LetterReader(log), 0
    batch = Batch([], defaultdict(dict))
    digests: set[tuple[str, bytes]] = set()
    for number, row in enumerate(rows):
        if number % TURN_LETTERS == 0:
            await asyncio.sleep(0)
        tp, record = TP(row["topic"], row["partition"]), None
        fate: Fate = "truncated" if row["truncated"] else "late_again"
        if not row["truncated"] and row["reason"] != "late":
            letter = await letters.read(tp, row["origin_offset"], row["letter_offset"])
            fate, record = ("gone", None) if letter is None else _judged(tp.topic, letter.value, settings, now_us)
        event = tp.topic, row["digest"]
        if record is not None and event in digests:
            fate = "same"
        elif record is not None:
            digests.add(event)
            batch.events[tp][row["digest"]] = record
            size += len(record.value)
        batch.fates.append(fate)
        if size >= MAX_BATCH_BYTES:
            break
    return batch


def _judged(topic: str, raw: bytes, settings: Settings, now_us: int) -> tuple[Fate, Record | None]:
    """What the worker would say of an event, as far as the clock tells its watermark; and its record."""
    kind = SOURCES[topic]
    try:
        event = decode(kind, raw)
    except BadEvent:
        return "bad_again", None
    ts_us, lines = time_us(event.timestamp), settings.lines
    if ts_us > now_us + settings.max_future_s * 1_000_000:
        return "bad_again", None
    if ts_us // lines.window_us <= lines.expired(now_us - lines.out_of_order_us):
        return "late_again", None
    return "sent", Record(record_key(kind, event, raw), raw)


async def send(log: Log, batch: Batch) -> set[tuple[str, bytes]]:
    """Send the events of a batch. Returns topic and digest of those that are durable; of others nobody can tell.

    Raises `Unavailable` when none was sent.
    """
    if not batch.events:
        return set()
    offsets = await log.append({tp: list(records.values()) for tp, records in batch.events.items()})
    return {
        (tp.topic, digest)
        for tp, records in batch.events.items()
        for digest in records
        if offsets[tp] != UNKNOWN_OFFSET
    }
