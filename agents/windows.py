"""Stage two: merges the partitions' partial rows, and publishes each revision to `llm.metrics` and Postgres.

Which rows are final, and which expire, follows only from what the partitions of stage one announce, never from a clock.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from streamlens.app import app
from streamlens.checkpoint.frames import Version
from streamlens.checkpoint.state import State
from streamlens.log import TP, Record, Run
from streamlens.partitioner import cached_partition_of
from streamlens.postgres.rows import MetricRow, SettledRow
from streamlens.postgres.tables import Row
from streamlens.published import metric_record
from streamlens.topics import CLOSED_KEY, METRICS, PARTIALS, decode_closed, decode_partials
from tables import faceted, partials
from tables.families import FAMILIES, PREFIXES
from tables.windowed import window_key, window_of
from tables.windows import (
    CLOSED,
    CLOSED_END,
    SETTLED,
    Closed,
    Slot,
    closed_key,
    decode_closed_slot,
    decode_merged,
    decode_settled,
    encode_closed_slot,
    encode_settled,
    merged,
)

_RENDERED_ROWS = 5_000
_FAMILY = {family.prefix[0]: family for family in FAMILIES}


class WindowsOptions(msgspec.Struct, frozen=True):
    """What the logic of all partitions shares."""

    partitions: int
    window_us: int


class Windows:
    """The logic of one partition of stage two."""

    outputs = PREFIXES + SETTLED

    def __init__(self, partition: int, options: WindowsOptions) -> None:
        self._partition = partition
        self._options = options
        self._rows = {family.prefix: merged(family.prefix, family.cached_rows) for family in FAMILIES}
        self._announced: dict[int, Closed] = {}
        self._closed = self._expired = self._finalised = self._settled = -1
        self._state: State
        self.since_ms = 0  # when the oldest event of the epoch was appended
        self._rendered: dict[bytes, MetricRow] = {}  # what was published last, for the sink that comes after
        self.unwritten_since_ms = 0
        """When the oldest event was appended whose row is not yet in Postgres, as far as it is known; 0: none."""
        self.dropped = 0
        """Partials of expired windows, which are not counted again, and of families that a newer version has sent."""

    # -- the unit's verbs ----------------------------------------------------------------------------------------

    def open(self, state: State, header: bytes, offsets: Mapping[str, int]) -> None:
        self._state = state
        self.dropped, self._finalised = msgspec.msgpack.decode(header, type=tuple[int, int]) if header else (0, -1)
        for key, raw in state.scan(CLOSED, CLOSED_END):
            self._announced[int.from_bytes(key[1:], "big")] = decode_closed_slot(raw)
        self._settled = decode_settled(state.get(SETTLED))
        self._follow()
        for rows in self._rows.values():
            rows.open(state, self._closed)

    def apply(self, topic: str, run: Run) -> None:
        open_keys = window_key(b"", self._expired + 1)
        for raw in run.values:
            sent = decode_partials(raw)
            partition, version = sent.partition, (sent.generation, sent.epoch)
            for key, content in sent.rows:
                if key == CLOSED_KEY:
                    self._announce(partition, version, content)
                    open_keys = window_key(b"", self._expired + 1)
                elif key[1:] < open_keys or (rows := self._rows.get(key[:1])) is None:
                    self.dropped += 1
                else:
                    row = rows.look(key)
                    if row.accept(partition, Slot(version, content)):
                        rows.touch(key, row)
                        self.since_ms = self.since_ms or sent.appended_ms

    def advance(self, now_us: int, ends: Mapping[str, int]) -> None:
        """Nothing: this stage has no clock."""

    def flush(self) -> bytes:
        self._rendered.clear()
        self.unwritten_since_ms, self.since_ms = self.unwritten_since_ms or self.since_ms, 0
        for family in FAMILIES:
            rows = self._rows[family.prefix]
            if family.has_final and self._closed > self._finalised:
                for key in list(rows.keys(self._finalised + 1, self._closed)):
                    rows.change(key)
            later = window_key(family.prefix, self._closed + 1)
            for key, row in rows.changed():
                row.revision += 1
                row.final = key < later
            rows.flush(self._expired)
            rows.rest(self._closed)
        self._finalised = max(self._finalised, self._closed)
        self._settle()
        return msgspec.msgpack.encode((self.dropped, self._finalised))

    def render(self, outputs: Iterable[tuple[bytes, bytes]], version: Version) -> Iterator[tuple[TP, Record]]:
        for key, value in outputs:
            if key[:1] != partials.PREFIX:
                continue
            row = self.row(key, value, version)
            assert isinstance(row, MetricRow)
            if len(self._rendered) < _RENDERED_ROWS:
                self._rendered[key] = row
            record = metric_record(row)
            assert record.key is not None
            yield TP(METRICS, cached_partition_of(record.key, self._options.partitions)), record

    def rendered(self, key: bytes, version: Version) -> MetricRow | None:
        """An output as it was just published, if it is at hand; once."""
        row = self._rendered.pop(key, None)
        return row if row is not None and row.version == version else None

    def row(self, key: bytes, value: bytes, version: Version) -> Row:
        """An output as Postgres gets it."""
        window_us = self._options.window_us
        if key == SETTLED:
            return SettledRow(self._partition, (decode_settled(value) + 1) * window_us, version)
        return _FAMILY[key[0]].row(key, decode_merged(value), window_of(key) * window_us, window_us, version)

    # -- how far it is closed ------------------------------------------------------------------------------------

    def _announce(self, partition: int, version: Version, content: bytes) -> None:
        last = self._announced.get(partition, Closed())
        if version <= last.version:
            return
        closed, expired = decode_closed(content)
        # Never back: rows of expired windows are gone, so what came for them now would replace whole rows by parts.
        told = self._announced[partition] = Closed(version, max(last.closed, closed), max(last.expired, expired))
        self._state.put(closed_key(partition), encode_closed_slot(told))
        self._follow()

    def _follow(self) -> None:
        """A window is closed, and expired, when all partitions of stage one say so."""
        if len(self._announced) == self._options.partitions:
            self._closed = min(each.closed for each in self._announced.values())
            self._expired = min(each.expired for each in self._announced.values())

    def _settle(self) -> None:
        """Publish up to where rows of calls have expired and are in Postgres, so that hours can be added up there."""
        settled = min(self._rows[prefix].settled for prefix in (partials.PREFIX, faceted.PREFIX))
        if settled > self._settled:
            self._settled = settled
            self._state.put(SETTLED, encode_settled(settled))


settings = app.settings
stage = app.stage(
    "windows",
    [PARTIALS],
    lambda partition: Windows(partition, WindowsOptions(settings.partitions, settings.window_us)),
    rows=True,
)


@app.agent(app.topic(PARTIALS, value_serializer="raw", value_type=bytes, acks=False))
async def windows(stream: Any) -> None:
    """Merge what the partitions of stage one publish."""
    async for event in stream.events():
        await stage.process(event.message.tp, event.value)
