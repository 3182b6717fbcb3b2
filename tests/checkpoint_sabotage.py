"""Ways to break the checkpoint, one rule each, for `test_checkpoint_rules.py`: what a rule is for shows without it."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from checkpoint_counting import CLOSED, Counting, encode
from checkpoint_truth import MemoryStore, Sink
from checkpoint_world import Steps, Worker, World
from streamlens.checkpoint import unit as unit_module
from streamlens.checkpoint.frames import Epoch, Lineage, Takeover, Version, epoch_records
from streamlens.checkpoint.replay import LAST, OUTBOX, Meta, Replay
from streamlens.checkpoint.state import State
from streamlens.checkpoint.unit import Frame, Unit
from streamlens.log import UNKNOWN_OFFSET, Run

Patch = pytest.MonkeyPatch

# -- takeover, generation, fence -------------------------------------------------------------------------------------


def no_fence(patch: Patch) -> None:
    fenced = Unit.fenced
    patch.setattr(Unit, "fenced", lambda self, frame, base, between: fenced(self, frame, base, []))


def fence_checked_before_the_append(patch: Patch) -> None:
    append = Worker._append

    def remember(self: Any, records: Sequence[bytes], label: str) -> Any:
        self.before = len(self.world.log)
        return append(self, records, label)

    def judge(self: Any, unit: Unit, frame: Frame, base: int) -> bool:
        return unit.fenced(frame, base, self.world.log[unit.gap(base).start : self.before])

    patch.setattr(Worker, "_append", remember)
    patch.setattr(Worker, "is_fenced", judge)


def generations_ignored(patch: Patch) -> None:
    feed = Lineage._feed

    def follow(self: Lineage, offset: int, part: Any) -> Epoch | None:
        if not isinstance(part, Takeover):
            self.generation = part.generation
        return feed(self, offset, part)

    patch.setattr(Lineage, "_feed", follow)


def highest_generation_without_takeover(patch: Patch) -> None:
    """A generation from elsewhere, say a counter in Postgres: who reads learns of it from the first epoch only."""
    feed = Lineage._feed

    def follow(self: Lineage, offset: int, part: Any) -> Epoch | None:
        if isinstance(part, Takeover):
            return None
        self.generation = max(self.generation, part.generation)
        return feed(self, offset, part)

    patch.setattr(Lineage, "_feed", follow)


def split_appends_acknowledged(patch: Patch) -> None:
    patch.setattr(Worker, "acknowledged", lambda self, offsets: offsets[0])


def same_epoch_again_after_a_lost_answer(patch: Patch) -> None:
    def retry(self: Worker, unit: Unit, frame: Frame, base: int) -> None:
        unit.version = (unit.version[0], unit.version[1] - 1)
        unit.state._overlay = {**frame.changes, **unit.state._overlay}
        unit.state._frozen = {}

    patch.setattr(Worker, "drop", retry)


def lost_answers_taken_for_success(patch: Patch) -> None:
    fenced = Unit.fenced

    def believe(self: Unit, frame: Frame, base: int, between: Iterable[bytes]) -> bool:
        return fenced(self, frame, self._next_own if base == UNKNOWN_OFFSET else base, between)

    patch.setattr(Unit, "fenced", believe)


# -- the changelog before all else -----------------------------------------------------------------------------------


def store_written_before_the_append(patch: Patch) -> None:
    freeze, write = Unit.freeze, Unit.write

    def freeze_and_write(self: Unit) -> Frame | None:
        if frame := freeze(self):
            write(self, frame)
        return frame

    patch.setattr(Unit, "freeze", freeze_and_write)
    patch.setattr(Unit, "write", lambda self, frame: None)


def published_before_the_append(patch: Patch) -> None:
    checkpoint, freeze = Worker._checkpoint, Unit.freeze

    def publish_at_once(self: Worker, unit: Unit) -> Steps:
        def freeze_and_publish() -> Frame | None:
            if frame := freeze(unit):
                for key in frame.outputs:
                    self.world.partials.take(key, frame.version, frame.changes[key])
            return frame

        unit.freeze = freeze_and_publish  # type: ignore[method-assign]
        return checkpoint(self, unit)

    patch.setattr(Worker, "_checkpoint", publish_at_once)


def incomplete_frames_applied(patch: Patch) -> None:
    """A reader that takes of the last frame what is there, as if each part were whole."""
    bodies: dict[Version, Any] = {}
    finish = Replay.finish

    def remember(version: Version, header: Any, changes: Any, part_bytes: int) -> list[bytes]:
        bodies[version] = (header, changes[:1])
        return epoch_records(version, header, changes, part_bytes)

    def take_what_is_there(self: Replay, takeover: int) -> Any:
        if self._lineage._parts:
            version = (self._lineage.generation, self._lineage._of)
            self._apply(Epoch(*version, takeover, *bodies[version]))
        return finish(self, takeover)

    patch.setattr(unit_module, "epoch_records", remember)
    patch.setattr(Replay, "finish", take_what_is_there)


def offsets_only_in_the_group(patch: Patch) -> None:
    def take_from_the_group(self: World, takeover: int, unit: Unit) -> None:
        unit.offsets = dict(self.committed)

    patch.setattr(World, "check_recovered", take_from_the_group)


def repeated_records_counted(patch: Patch) -> None:
    patch.setattr(Run, "after", lambda self, offset: self)


def live_values_published(patch: Patch) -> None:
    publish = Worker.publish

    def publish_live(self: Worker, unit: Unit, outputs: Any) -> Steps:
        return publish(self, unit, [(key, version, unit.state.get(key)) for key, version, _ in outputs])

    patch.setattr(Worker, "publish", publish_live)


def frozen_values_not_read(patch: Patch) -> None:
    freeze = State.freeze

    def freeze_and_thaw(self: State) -> dict[bytes, bytes | None]:
        frozen = freeze(self)
        self.thaw()
        return frozen

    patch.setattr(State, "freeze", freeze_and_thaw)


def gaps_skipped(patch: Patch) -> None:
    def skip(self: Replay, offset: int, record: bytes) -> None:
        epoch = self._lineage.feed(offset, record)
        if epoch is not None and epoch.epoch > self._meta.epoch:
            self._apply(epoch)

    patch.setattr(Replay, "feed", skip)


def stores_ahead_of_the_log_used(patch: Patch) -> None:
    finish = Replay.finish

    def use(self: Replay, takeover: int) -> Any:
        self._meta = Meta(self._meta.generation, self._meta.epoch, takeover, self._meta.header)
        return finish(self, takeover)

    patch.setattr(Replay, "finish", use)


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


def _stored_without(patch: Patch, prefix: bytes) -> None:
    write = MemoryStore.write

    def write_without(self: MemoryStore, changes: Any) -> None:
        write(self, {key: value for key, value in changes.items() if not key.startswith(prefix)})

    patch.setattr(MemoryStore, "write", write_without)
