"""What is published and kept for the sinks, each safeguard taken out of the production classes."""

from streamlens.checkpoint.frames import Epoch
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.state import State
from streamlens.checkpoint.unit import Unit
from streamlens.postgres import store
from streamlens.topics import CLOSED_KEY
from tables.pending import Pending
from tables.windows import Merged, Slot


def nothing_republished() -> None:
    """publishing the last epoch again after a takeover"""
    Unit.unpublished = lambda self: {}  # type: ignore[method-assign]


def no_outbox() -> None:
    """the outbox: rows that PostgreSQL has not taken are forgotten with the next epoch"""
    Unit._move_to_outbox = lambda self, batch: None  # type: ignore[method-assign]
    outbox_not_restored()


def outbox_not_restored() -> None:
    """the outbox in the changelog: it is in RocksDB alone"""

    def leave_it(self: Replay, epoch: Epoch) -> None:
        """Nothing."""

    Replay._move_to_outbox = leave_it  # type: ignore[method-assign]


def no_version_guard_in_postgres() -> None:
    """the version guard in PostgreSQL: the last writer wins"""
    for upsert in store._UPSERTS.values():
        put, guard, _ = upsert.put.partition("where excluded.version >")
        assert guard
        upsert.put = put


def no_version_guard_in_stage_two() -> None:
    """the version guard of stage two: the last partial wins"""

    def accept(self: Merged, partition: int, slot: Slot) -> bool:
        self.slots[partition] = slot
        return True

    Merged.accept = accept  # type: ignore[method-assign]


def closed_announced_first() -> None:
    """the order of partials and closing: a window is announced as closed and expired before its last rows"""
    freeze = State.freeze

    def reorder(self: State) -> dict[bytes, bytes | None]:
        if CLOSED_KEY in self._overlay:
            self._overlay = {CLOSED_KEY: self._overlay[CLOSED_KEY], **self._overlay}
        return freeze(self)

    State.freeze = reorder  # type: ignore[method-assign]


def marks_dropped_early() -> None:
    """the lifetime of marks: a joined id is remembered for an epoch or two"""
    flush = Pending.flush

    def flush_and_forget(self: Pending, expired: int) -> None:
        flush(self, max([expired, *self._marks.values()]))

    Pending.flush = flush_and_forget  # type: ignore[method-assign]
