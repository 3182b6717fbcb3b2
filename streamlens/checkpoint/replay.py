"""Brings a store up to date from the changelog: what a takeover does before the first own epoch.

Also the store's own entries, whose keys begin with a zero byte: where it stands, what its last epoch published, and
the outbox of outputs that a lagging sink has not acknowledged.
"""

import msgspec

from streamlens.checkpoint.frames import Epoch, Header, Lineage, Version
from streamlens.checkpoint.store import Store
from streamlens.errors import Damaged

META = b"\x00meta"
LAST = b"\x00last"
OUTBOX = b"\x00o"
OUTBOX_END = b"\x00p"
_CHANGES_PER_WRITE = 20_000


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """What a store says about itself: the epoch that it holds, the generation in force, where to read on."""

    generation: int
    epoch: int
    position: int
    header: Header
    delta_bytes: int = 0
    """What the changelog has grown by since the last complete snapshot, snapshots aside."""
    snapshot_bytes: int = 0
    """How large that snapshot was."""


EMPTY = Meta(-1, 0, 0, Header({}, 0, b""))
encode = msgspec.msgpack.Encoder().encode
encode_version = encode
decode_version = msgspec.msgpack.Decoder(Version).decode
decode_meta = msgspec.msgpack.Decoder(Meta).decode
_decode_last = msgspec.msgpack.Decoder(tuple[Version, list[bytes]]).decode


class Replay:
    """Applies the epochs that count to a store: complete, of the generation then in force, consecutive."""

    def __init__(self, store: Store, outputs: bytes, *, lagging_sink: bool = False) -> None:
        self._store = store
        self._outputs = outputs
        self._lagging = lagging_sink
        raw = store.get(META)
        self._meta = EMPTY if raw is None else decode_meta(raw)
        self.records = 0
        """How many records were read."""
        self._lineage = Lineage(self._meta.generation, self._meta.epoch)
        self._delta_bytes = self._meta.delta_bytes
        self._changes: dict[bytes, bytes | None] = {}
        raw = store.get(LAST)
        self._last: tuple[Version, list[bytes]] = ((-1, 0), []) if raw is None else _decode_last(raw)

    @property
    def position(self) -> int:
        """Where in the changelog the store stands: read on from here."""
        return self._meta.position

    def feed(self, offset: int, record: bytes) -> None:
        self.records += 1
        epoch = self._lineage.feed(offset, record)
        if epoch is None or (epoch.generation, epoch.epoch) <= self._last[0]:
            return  # Nothing new, or an epoch that was sent twice.
        if epoch.epoch != self._meta.epoch + 1:
            raise Damaged(
                f"the changelog goes from epoch {self._meta.epoch} to {epoch.epoch}: records are missing, or it is not"
                " the one that the store was made from"
            )
        self._apply(epoch)
        if len(self._changes) >= _CHANGES_PER_WRITE:
            self._write()

    def finish(self, takeover: int) -> tuple[Meta, dict[bytes, Version]]:
        """Write the rest. Returns where the store stands, and the outputs of the last epoch with their versions."""
        if self._meta.position > takeover:
            raise Damaged(f"the store is at changelog position {self._meta.position}, the log ends at {takeover}")
        if self._lagging:
            self._forget_drained()
        self._move_to(takeover, self._meta.epoch, takeover + 1, self._meta.header)
        self._write()
        return self._meta, dict.fromkeys(self._last[1], self._last[0])

    def _apply(self, epoch: Epoch) -> None:
        version = (epoch.generation, epoch.epoch)
        if self._lagging:
            self._move_to_outbox(epoch)
        self._changes.update(epoch.changes)
        self._last = (version, [key for key, value in epoch.changes if value is not None and key[0] in self._outputs])
        self._move_to(self._lineage.generation, epoch.epoch, epoch.next, epoch.header)

    def _move_to(self, generation: int, epoch: int, position: int, header: Header) -> None:
        delta_bytes = self._delta_bytes + self._lineage.bytes
        self._meta = Meta(generation, epoch, position, header, delta_bytes, self._meta.snapshot_bytes)

    def _move_to_outbox(self, epoch: Epoch) -> None:
        """As `Unit.write` does, if the sink acknowledged nothing; so each write leaves a complete outbox behind."""
        version, keys = self._last
        self._changes.update((OUTBOX + key, encode_version(version)) for key in keys)
        for key, value in epoch.changes:
            if value is None and key[0] in self._outputs:
                self._changes[OUTBOX + key] = None  # It was deleted because the sink had it.

    def _forget_drained(self) -> None:
        self._write()
        for key, value in self._store.scan(OUTBOX, OUTBOX_END):
            if decode_version(value)[1] <= self._meta.header.drained:
                self._changes[key] = None

    def _write(self) -> None:
        self._changes[META] = encode(self._meta)
        self._changes[LAST] = encode(self._last)
        self._store.write(self._changes)
        self._changes = {}
