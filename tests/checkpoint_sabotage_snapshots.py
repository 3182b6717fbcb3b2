"""Ways to break snapshots, and the cutting of the changelog's head, for `test_checkpoint_snapshot_rules.py`."""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pytest

from checkpoint_changelog import Changelog
from checkpoint_truth import MemoryStore
from checkpoint_worker import Worker
from streamlens.checkpoint import takeover as takeover_module
from streamlens.checkpoint.frames import (
    Epoch,
    Lineage,
    SnapshotPart,
    Takeover,
    parse,
    snapshot_entries,
    snapshot_record,
)
from streamlens.checkpoint.replay import LAST, META, OUTBOX, Meta, Replay, encode
from streamlens.checkpoint.snapshot import RESTORING, Restore
from streamlens.checkpoint.unit import Unit

Patch = pytest.MonkeyPatch

# -- what is in a snapshot -------------------------------------------------------------------------------------------


def last_epochs_outputs_left_out(patch: Patch) -> None:
    _snapshots_without(patch, LAST)


def outbox_left_out(patch: Patch) -> None:
    _snapshots_without(patch, OUTBOX)


def marks_left_out(patch: Patch) -> None:
    _snapshots_without(patch, b"M")


# -- which snapshot is used, and how ---------------------------------------------------------------------------------


def read_on_from_the_end_of_the_snapshot(patch: Patch) -> None:
    feed = Restore.feed

    def skip(self: Restore, offset: int, record: bytes) -> None:
        feed(self, offset, record)
        if self.done:
            self.held.clear()
            meta = Replay(self._store, lambda key: False)._meta
            self._store.write({META: encode(Meta(meta.generation, meta.epoch, offset + 1, meta.header))})

    patch.setattr(Restore, "feed", skip)


def generation_guessed_at_the_first_record(patch: Patch) -> None:
    """Who reads on after a snapshot takes the generation of the next epoch that comes."""
    feed = Lineage._feed

    def guess(self: Lineage, offset: int, part: Any) -> Epoch | None:
        if not isinstance(part, Takeover | SnapshotPart) and not hasattr(self, "guessed"):
            self.generation = part.generation
        self.guessed = True  # type: ignore[attr-defined]
        return feed(self, offset, part)

    patch.setattr(Lineage, "_feed", guess)


def snapshots_of_what_is_gone_used(patch: Patch) -> None:
    end = Restore._end

    def whatever_it_says(self: Restore) -> None:
        self._start = 0
        end(self)

    patch.setattr(Restore, "_end", whatever_it_says)


def incomplete_snapshots_used(patch: Patch) -> None:
    feed = Restore.feed

    def take_what_is_there(self: Restore, offset: int, record: bytes) -> None:
        part = parse(offset, record)
        if isinstance(part, SnapshotPart):
            version = (part.generation, part.epoch)
            record = snapshot_record(version, part.number, META in dict(snapshot_entries(part)), snapshot_entries(part))
        feed(self, offset, record)

    patch.setattr(Restore, "feed", take_what_is_there)


def half_restored_stores_used(patch: Patch) -> None:
    get = MemoryStore.get
    patch.setattr(MemoryStore, "get", lambda self, key: None if key == RESTORING else get(self, key))


def stores_not_wiped_before_a_restore(patch: Patch) -> None:
    patch.setattr(MemoryStore, "clear", lambda self: None)


# -- where the log starts --------------------------------------------------------------------------------------------


def log_start_not_looked_at(patch: Patch) -> None:
    """As a consumer with `auto.offset.reset=earliest`: what is gone is skipped."""
    patch.setattr(Changelog, "start", lambda self: 0)
    patch.setattr(Changelog, "readable", lambda self, offset: max(offset, self._world.head))


def later_owners_not_looked_for(patch: Patch) -> None:
    async def nobody(*_: object) -> bool:
        return False

    patch.setattr(takeover_module, "_taken_since", nobody)


def head_cut_without_a_fence(patch: Patch) -> None:
    append = Worker._append

    def hide_the_gap(self: Worker, records: Sequence[bytes], label: str) -> Generator[str, None, int]:
        base = yield from append(self, records, label)
        return self.unit._next_own if self.unit and label == "snapshot" else base

    patch.setattr(Worker, "_append", hide_the_gap)


def head_cut_before_the_snapshot_is_complete(patch: Patch) -> None:
    appended = Unit.snapshot_appended

    def too_early(self: Unit) -> int | None:
        return self._snapshot_at[0] if self._snapshot else appended(self)

    patch.setattr(Unit, "snapshot_appended", too_early)


def head_cut_up_to_the_end_of_the_snapshot(patch: Patch) -> None:
    _cut_at(patch, lambda unit, position: unit._next_own)


def _cut_at(patch: Patch, where: Callable[[Unit, int], int]) -> None:
    appended = Unit.snapshot_appended

    def cut(self: Unit) -> int | None:
        position = appended(self)
        return None if position is None else where(self, position)

    patch.setattr(Unit, "snapshot_appended", cut)


def _snapshots_without(patch: Patch, prefix: bytes) -> None:
    snapshot = MemoryStore.snapshot

    def without(self: MemoryStore) -> Iterator[tuple[bytes, bytes]]:
        return iter([entry for entry in snapshot(self) if not entry[0].startswith(prefix)])

    patch.setattr(MemoryStore, "snapshot", without)
