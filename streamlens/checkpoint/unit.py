"""One partition of one stage: the steps of its checkpoint and of its takeover, without any I/O but its store.

The caller (`stage.py`, or a test that crashes between any two steps) appends, publishes and asks the group. The order
of the steps is the guarantee; model checking found each rule here necessary (`docs/decisions/002-checkpoint.md`).
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from streamlens.checkpoint.frames import PART_BYTES, Header, Version, epoch_records, is_takeover
from streamlens.checkpoint.replay import (
    EMPTY,
    LAST,
    META,
    OUTBOX,
    OUTBOX_END,
    Meta,
    Replay,
    decode_version,
    encode,
    encode_version,
)
from streamlens.checkpoint.snapshot import SnapshotWriter
from streamlens.checkpoint.state import State
from streamlens.checkpoint.store import Store
from streamlens.log import UNKNOWN_OFFSET, Run

SNAPSHOT_MIN_BYTES = 16 << 20
"""Deltas below this are never worth a snapshot: they are replayed in a second."""
SNAPSHOT_PIECE_BYTES = 1 << 20
"""How much of a snapshot is appended at once: some hundredths of a second's work."""


class Logic(Protocol):
    """What a stage counts. Pure but for its `State`; one instance per unit and takeover."""

    def open(self, state: State, header: bytes, offsets: Mapping[str, int]) -> None:
        """Build what is kept in memory from a recovered state.

        `header` is what `flush` returned last, b"" at first; `offsets` the next offset of each source topic, kept up
        to date by the unit.
        """

    def apply(self, topic: str, run: Run) -> None:
        """Count the records of one run. An exception poisons the unit."""

    def flush(self) -> bytes:
        """Put all that changed into the state; called at the end of each epoch. Returns the logic's header."""

    outputs: bytes
    """First bytes of the keys whose entries are published when they change."""


class Frame(NamedTuple):
    """One epoch on its way: everything in it is bytes, taken before the first await."""

    version: Version
    header: Header
    changes: dict[bytes, bytes | None]
    outputs: list[bytes]
    records: list[bytes]

    @property
    def published(self) -> Iterable[tuple[bytes, bytes]]:
        """The outputs with their values."""
        return zip(self.outputs, map(self.changes.__getitem__, self.outputs), strict=True)  # type: ignore[arg-type]


class Unit:
    """The state machine of one partition: `recover`, then again and again `freeze`, `fenced`, `write`, `published`."""

    def __init__(
        self,
        store: Store,
        logic: Logic,
        *,
        lagging_sink: bool = False,
        part_bytes: int = PART_BYTES,
        snapshot_min_bytes: int = SNAPSHOT_MIN_BYTES,
    ) -> None:
        self.state = State(store)
        self.state.is_waiting = self.is_waiting
        self.logic = logic
        self.offsets: dict[str, int] = {}
        self.version: Version = (-1, 0)
        self._lagging = lagging_sink
        self._part_bytes = part_bytes
        self._next_own = 0
        self._position = 0  # in the changelog, as the store says
        self._header = EMPTY.header
        self._recent: dict[bytes, Version] = {}
        self._acked: set[bytes] = set()
        self._in_outbox = 0
        self._unacked_from = OUTBOX  # where to look: what is before it in the outbox is acknowledged
        self._drained = 0
        self._published = True
        self._snapshot_min_bytes = snapshot_min_bytes
        self._snapshot: SnapshotWriter | None = None
        self._snapshot_at = (0, 0)
        self._snapshot_bytes = self._delta_bytes = 0

    # -- takeover ------------------------------------------------------------------------------------------------

    def recover(self, takeover: int, replay: Replay) -> None:
        """Take the partition as of the takeover record at offset `takeover`, which is the new generation.

        `replay` was fed the changelog from `replay.position` up to, without, the takeover. Raises `Damaged` when
        store and changelog contradict each other.
        """
        meta, self._recent = replay.finish(takeover)
        self.version = (takeover, meta.epoch)
        self.offsets = dict(meta.header.offsets)
        self._header = meta.header
        self._next_own = self._position = takeover + 1
        self._drained = meta.header.drained
        self._in_outbox = sum(1 for _ in self.state.store.scan(OUTBOX, OUTBOX_END))
        self._published = not self._recent
        self._delta_bytes, self._snapshot_bytes = meta.delta_bytes, meta.snapshot_bytes
        self.logic.open(self.state, meta.header.logic, self.offsets)

    def unpublished(self) -> dict[bytes, Version]:
        """Outputs of the last epoch, in order: after a takeover, publish them again under these stored versions."""
        return dict(self._recent)

    # -- the epoch -----------------------------------------------------------------------------------------------

    def apply(self, topic: str, run: Run) -> bool:
        """Count a run of records; what the state has seen already is dropped. False: it begins too late, seek back."""
        expected = self.offsets.get(topic, 0)
        if run.next <= expected:
            return True
        if run.first > expected:
            return False
        self.logic.apply(topic, run if run.first == expected else run.after(expected))
        self.offsets[topic] = run.next
        return True

    def freeze(self) -> Frame | None:
        """End the epoch here: serialise what changed, before any await. None when nothing did."""
        assert self._published, "the outputs of an epoch are acknowledged before the next one's append"
        logic_header = self.logic.flush()
        header = Header(dict(self.offsets), self._drained_now(), logic_header)
        if not len(self.state) and header.offsets == self._header.offsets:
            return None
        changes = self.state.freeze()
        version = (self.version[0], self.version[1] + 1)
        self.version = version  # Never used again with other content: a lost frame ends in a new takeover.
        published = self.logic.outputs
        outputs = [key for key, value in changes.items() if key[0] in published and value is not None]
        records = epoch_records(version, header, list(changes.items()), self._part_bytes)
        return Frame(version, header, changes, outputs, records)

    def fenced(self, records: Sequence[bytes], base: int, between: Iterable[bytes] | None) -> bool:
        """Whether the partition was lost, judged after the append of `records`, acknowledged with `base`.

        `between` gives the records of `gap(base)`, or None when they are deleted: a later owner cut the changelog.
        Fenced: drop this unit, write no store, publish nothing. Checking before the append is not enough: a takeover
        may come just before it.
        """
        if base == UNKNOWN_OFFSET or base < self._next_own:
            return True  # Its fate is unknown: only a new takeover can tell.
        if between is None or any(map(is_takeover, between)):
            return True
        self._next_own = base + len(records)
        return False

    @property
    def durable_offsets(self) -> Mapping[str, int]:
        """The next offset of each source topic as of the last durable epoch."""
        return self._header.offsets

    def gap(self, base: int) -> range:
        """The offsets between the previous own record and this append: whoever wrote there is not us."""
        return range(self._next_own, base)

    def write(self, frame: Frame) -> None:
        """Make the store hold the epoch, in one batch. An exception here must end the process."""
        self._delta_bytes += sum(map(len, frame.records))
        meta = Meta(*frame.version, self._next_own, frame.header, self._delta_bytes, self._snapshot_bytes)
        batch = dict(frame.changes)
        batch[META] = encode(meta)
        batch[LAST] = encode((frame.version, frame.outputs))
        if self._lagging:
            self._move_to_outbox(batch)
        self.state.store.write(batch)
        self._position = self._next_own
        self.state.thaw()
        self._header = frame.header
        self._recent = dict.fromkeys(frame.outputs, frame.version)
        self._published = not frame.outputs

    # -- snapshots -----------------------------------------------------------------------------------------------

    @property
    def in_snapshot(self) -> bool:
        """Whether a snapshot has begun and is not complete."""
        return self._snapshot is not None

    def snapshot_records(self) -> list[bytes]:
        """The next piece of a snapshot, to be appended like an epoch's records; [] while none is due.

        Only between `write` and the next `freeze`. A snapshot begins when the deltas since the last one outweigh it.
        """
        if self._snapshot is None:
            if self._delta_bytes <= max(self._snapshot_min_bytes, self._snapshot_bytes):
                return []
            self._snapshot = SnapshotWriter(self.version, self.state.store.snapshot(), self._part_bytes)
            self._snapshot_at = (self._position, self._delta_bytes)
        records: list[bytes] = []
        while not self._snapshot.done and sum(map(len, records)) < SNAPSHOT_PIECE_BYTES:
            records.append(self._snapshot.next_record())
        return records

    def snapshot_appended(self) -> int | None:
        """After a piece has passed the fence: the position below which the changelog can go, once all is there."""
        if self._snapshot is None or not self._snapshot.done:
            return None
        position, delta_bytes = self._snapshot_at
        self._snapshot_bytes = self._snapshot.bytes
        self._delta_bytes -= delta_bytes
        self._snapshot = None
        return position

    def drop(self) -> None:
        """The unit is not used any more. A snapshot that is under way would keep its store open."""
        self._snapshot = None

    # -- what is published ---------------------------------------------------------------------------------------

    def published(self) -> None:
        """The log's sinks have all outputs of the last epoch. Without a lagging sink that is all there is to do."""
        self._published = True
        if not self._lagging:
            self._recent = {}

    def acked(self, versions: Mapping[bytes, Version]) -> None:
        """The lagging sink has these outputs in these versions."""
        for key, version in versions.items():
            if self._recent.get(key) == version:
                del self._recent[key]
            if self._in_outbox:
                stored = self.state.store.get(OUTBOX + key)
                if stored is not None and decode_version(stored) <= version:
                    self._acked.add(key)

    def waiting(self, limit: int) -> dict[bytes, Version]:
        """Outputs that the lagging sink does not have yet: the last epoch's first, then older ones from the store."""
        if self._recent or not self._in_outbox:
            return dict(islice(self._recent.items(), limit))
        found: dict[bytes, Version] = {}
        for stored, value in self.state.store.scan(self._unacked_from, OUTBOX_END):
            if len(found) >= limit:
                break
            if (key := stored[len(OUTBOX) :]) not in self._acked:
                found[key] = decode_version(value)
            elif not found:
                self._unacked_from = stored
        return found

    def is_waiting(self, key: bytes) -> bool:
        """Whether an output of this key is not yet with all sinks; its entry must not be deleted before."""
        if key in self._recent:
            return True
        return self._in_outbox > 0 and key not in self._acked and self.state.store.get(OUTBOX + key) is not None

    @property
    def backlog(self) -> int:
        """How many outputs wait for the lagging sink."""
        return len(self._recent) + self._in_outbox - len(self._acked)

    # -- inside --------------------------------------------------------------------------------------------------

    def _drained_now(self) -> int:
        """The epoch up to which all outputs are with all sinks, as far as this unit knows."""
        if not self._recent and self._in_outbox == len(self._acked):
            self._drained = self.version[1]
        return self._drained

    def _move_to_outbox(self, batch: dict[bytes, bytes | None]) -> None:
        """What the lagging sink has not acknowledged moves from memory to the store, a key's latest version only."""
        get = self.state.store.get
        for key in self._acked:
            batch[OUTBOX + key] = None
        for key, version in self._recent.items():
            self._in_outbox += get(OUTBOX + key) is None
            self._acked.discard(key)
            batch[OUTBOX + key] = encode_version(version)
        self._in_outbox -= len(self._acked)
        self._acked = set()
        self._unacked_from = OUTBOX
