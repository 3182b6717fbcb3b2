"""Ways to break the checkpoint, one rule each, for `test_checkpoint_rules.py`: what a rule is for shows without it."""

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import pytest

from checkpoint_worker import Steps, Worker
from checkpoint_world import World
from streamlens.checkpoint import unit as unit_module
from streamlens.checkpoint.frames import Epoch, Lineage, Takeover, Version, epoch_records
from streamlens.checkpoint.replay import Meta, Replay
from streamlens.checkpoint.state import State
from streamlens.checkpoint.unit import Frame, Unit
from streamlens.errors import Damaged
from streamlens.log import UNKNOWN_OFFSET, Run

Patch = pytest.MonkeyPatch

# -- takeover, generation, fence -------------------------------------------------------------------------------------


def no_fence(patch: Patch) -> None:
    fenced = Unit.fenced
    patch.setattr(Unit, "fenced", lambda self, records, base, between: fenced(self, records, base, []))


def fence_checked_before_the_append(patch: Patch) -> None:
    append = Worker._append

    def remember(self: Any, records: Sequence[bytes], label: str) -> Any:
        self.before = len(self.world.log)
        return append(self, records, label)

    def judge(self: Any, unit: Unit, records: Sequence[bytes], base: int) -> Generator[str, None, bool]:
        yield from ()
        return unit.fenced(records, base, self.world.log[unit.gap(base).start : self.before])

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
    def retry(self: Worker, unit: Unit, frame: Frame) -> None:
        unit.version = (unit.version[0], unit.version[1] - 1)
        unit.state._overlay = {**frame.changes, **unit.state._overlay}
        unit.state._frozen = {}

    patch.setattr(Worker, "drop", retry)


def lost_answers_taken_for_success(patch: Patch) -> None:
    fenced = Unit.fenced

    def believe(self: Unit, records: Sequence[bytes], base: int, between: Iterable[bytes]) -> bool:
        return fenced(self, records, self._next_own if base == UNKNOWN_OFFSET else base, between)

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


def smaller_epochs_skipped(patch: Patch) -> None:
    feed = Replay.feed

    def skip(self: Replay, offset: int, record: bytes) -> None:
        try:
            feed(self, offset, record)
        except Damaged:
            if self._lineage.epoch > self._meta.epoch:
                raise

    patch.setattr(Replay, "feed", skip)


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
