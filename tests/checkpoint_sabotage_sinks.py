"""Ways to break what is published and kept for the sinks, one rule each, for `test_checkpoint_sinks.py`."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from checkpoint_counting import CLOSED, Counting, encode
from checkpoint_truth import MemoryStore, Sink
from checkpoint_worker import Worker
from streamlens.checkpoint.frames import Epoch, Version
from streamlens.checkpoint.replay import LAST, OUTBOX, Replay
from streamlens.checkpoint.unit import Unit

Patch = pytest.MonkeyPatch

# -- what is published -----------------------------------------------------------------------------------------------


def no_version_guard(patch: Patch) -> None:
    patch.setattr(Sink, "refuses", lambda self, key, version: False)


def nothing_republished(patch: Patch) -> None:
    patch.setattr(Unit, "unpublished", lambda self: {})


def last_outputs_not_stored(patch: Patch) -> None:
    _stored_without(patch, LAST)


def publishing_not_waited_for(patch: Patch) -> None:
    """The outputs of an epoch are still on their way when the next one begins, and when the worker is killed."""
    publish = Worker.publish
    patch.setattr(
        Worker, "publish", lambda self, unit, outputs: iter(()) if self.unit else publish(self, unit, outputs)
    )


def closed_announced_first(patch: Patch) -> None:
    flush = Counting.flush

    def reorder(self: Counting) -> bytes:
        header: bytes = flush(self)
        changes = self._state._overlay
        if CLOSED in changes:
            self._state._overlay = {CLOSED: changes[CLOSED], **changes}
        return header

    patch.setattr(Counting, "flush", reorder)


def sinks_add_differences(patch: Patch) -> None:
    """What an epoch added is sent, and the sink adds it up."""

    def add(self: Sink, key: bytes, value: bytes) -> bytes:
        versions = sorted(version for other, version in self._truth.outputs if other == key)
        before = versions[: versions.index(self.versions[key])][-1:]
        old = msgspec.json.decode(self._truth.outputs[key, before[0]]) if before else []
        added = [uid for uid in msgspec.json.decode(value) if uid not in old]
        return encode(sorted(msgspec.json.decode(self.rows.get(key, b"[]")) + added))

    patch.setattr(Sink, "merged", add)


# -- what expires ----------------------------------------------------------------------------------------------------


def marks_expire_at_the_event_time(patch: Patch) -> None:
    patch.setattr(Counting, "_mark_until", lambda self, ts: ts + self._lateness)


def rows_expire_unpublished(patch: Patch) -> None:
    patch.setattr(Counting, "_may_go", lambda self, key: True)


def rows_expire_while_postgres_waits(patch: Patch) -> None:
    patch.setattr(Unit, "is_waiting", lambda self, key: False)


# -- a sink that lags behind -----------------------------------------------------------------------------------------


def nothing_moved_to_the_outbox(patch: Patch) -> None:
    patch.setattr(Unit, "_move_to_outbox", lambda self, batch: None)


def outbox_not_stored(patch: Patch) -> None:
    _stored_without(patch, OUTBOX)


def outbox_not_restored(patch: Patch) -> None:
    patch.setattr(Replay, "_move_to_outbox", lambda self, epoch: None)


def drained_too_early(patch: Patch) -> None:
    patch.setattr(Unit, "_drained_now", lambda self: self.version[1])


def deleted_rows_restored_to_the_outbox(patch: Patch) -> None:
    move = Replay._move_to_outbox

    def move_without_deletes(self: Replay, epoch: Epoch) -> None:
        move(self, epoch._replace(changes=[]))

    patch.setattr(Replay, "_move_to_outbox", move_without_deletes)


def outbox_keeps_the_first_version(patch: Patch) -> None:
    move = Unit._move_to_outbox

    def keep_first(self: Unit, batch: dict[bytes, bytes | None]) -> None:
        move(self, batch)
        for key in batch:
            if key.startswith(OUTBOX) and (stored := self.state.store.get(key)):
                batch[key] = stored

    patch.setattr(Unit, "_move_to_outbox", keep_first)


def answers_taken_for_the_latest_version(patch: Patch) -> None:
    acked = Unit.acked

    def take(self: Unit, versions: Mapping[bytes, Version]) -> None:
        acked(self, {key: self._recent.get(key, (1 << 60, 0)) for key in versions})

    patch.setattr(Unit, "acked", take)


def rows_answered_and_changed_counted_twice(patch: Patch) -> None:
    move = Unit._move_to_outbox

    def miscount(self: Unit, batch: dict[bytes, bytes | None]) -> None:
        both = len(self._acked & self._recent.keys())
        move(self, batch)
        self._in_outbox -= both

    patch.setattr(Unit, "_move_to_outbox", miscount)


def _stored_without(patch: Patch, prefix: bytes) -> None:
    write = MemoryStore.write

    def write_without(self: MemoryStore, changes: Any) -> None:
        write(self, {key: value for key, value in changes.items() if not key.startswith(prefix)})

    patch.setattr(MemoryStore, "write", write_without)
