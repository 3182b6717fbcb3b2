"""The checkpoint's rules, one scenario each, and the proof that each is needed: without it the scenario goes wrong.

A scenario drives the workers of `checkpoint_world.py` by the names of their steps. `breaks` lists its sabotages, from
`checkpoint_sabotage.py`: each breaks one rule, after which the scenario must end in the failure that is named there.
"""

from collections.abc import Callable, Sequence

import msgspec
import pytest

import checkpoint_sabotage as sabotage
from checkpoint_counting import CLEAR, Event, encode
from checkpoint_truth import Wrong
from checkpoint_world import World
from streamlens.checkpoint import replay
from streamlens.errors import Damaged
from streamlens.log import Run

Sabotage = Callable[[pytest.MonkeyPatch], None]
Scenario = Callable[[], None]
RULES: list[tuple[Scenario, Sabotage, str]] = []


def breaks(by: Sabotage, wrong: str) -> Callable[[Scenario], Scenario]:
    """Under the sabotage `by`, the scenario fails with a message that contains `wrong`."""

    def decorate(scenario: Scenario) -> Scenario:
        RULES.append((scenario, by, wrong))
        return scenario

    return decorate


def calls(*times: int, lateness: int = CLEAR, lagging: bool = False, part_bytes: int = 1_000_000) -> World:
    """A world of calls 1, 2, 3... at these times; worker A leads it."""
    events = [Event(uid, "c", f"id{uid}", ts) for uid, ts in enumerate(times, 1)]
    world = World({"calls": events}, lateness=lateness, lagging=lagging, part_bytes=part_bytes)
    world.assign("A")
    return world


def leading(*times: int, lateness: int = CLEAR, lagging: bool = False, part_bytes: int = 1_000_000) -> World:
    world = calls(*times, lateness=lateness, lagging=lagging, part_bytes=part_bytes)
    world.run("A", "run")
    return world


def epoch(world: World, name: str, count: int, until: str = "commit") -> None:
    """Count `count` calls and checkpoint them, up to this step."""
    world.read(name, "calls", count)
    world.run(name, until)


def end(world: World, **rows: Sequence[int]) -> None:
    world.drain()
    want = {key.encode(): encode(uids) for key, uids in rows.items()}
    if world.rows() != want:
        raise Wrong(f"the rows are {world.rows()}, should be {want}")


def refuse(world: World, name: str, why: str) -> None:
    try:
        world.run(name, "recover")
    except Damaged as error:
        assert why in str(error)
        return
    raise Wrong(f"{name} goes on")


# -- takeover, generation, fence -------------------------------------------------------------------------------------


@breaks(sabotage.no_fence, "is published as")
@breaks(sabotage.fence_checked_before_the_append, "is published as")
@breaks(sabotage.generations_ignored, "recovered")
@breaks(sabotage.highest_generation_without_takeover, "recovered")
def what_a_zombie_appends_after_the_takeover_is_void() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="freeze")
    world.assign("B")
    world.run("B", "run")
    world.run("A", "append", "fenced")
    epoch(world, "B", 2)
    world.crash("A", "wiped")
    world.assign("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@breaks(sabotage.no_fence, "recovered")
def a_fenced_zombie_leaves_its_store_alone() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="freeze")
    world.assign("B")
    world.run("B", "run")
    world.step("A", 2)  # Appends, then finds itself fenced; without a fence it writes its store here.
    world.crash("A")
    world.assign("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@breaks(sabotage.no_fence, "is published as")
def a_takeover_that_lands_late_fences_its_own_worker() -> None:
    world = calls(1, 3)
    world.run("A", "ask")
    world.lose_answer("A")
    world.run("A", "run")
    epoch(world, "A", 1, until="freeze")
    world.land()
    world.run("A", "append", "fenced", "run")
    end(world, W0000=[1, 2])


@breaks(sabotage.split_appends_acknowledged, "is published as")
def parts_that_are_not_side_by_side_are_of_unknown_fate() -> None:
    world = leading(1, 3, part_bytes=40)
    epoch(world, "A", 2, until="append")
    world.assign("B")
    world.run("B", "run")
    world.run("A", "fenced")
    end(world, W0000=[1, 2])


@breaks(sabotage.same_epoch_again_after_a_lost_answer, "follows part")
def an_epoch_number_is_never_used_again() -> None:
    world = leading(1, 3, 5)
    epoch(world, "A", 1, until="append")
    world.lose_answer("A")
    world.read("A", "calls", 1)
    world.run("A", "fenced", "run")
    end(world, W0000=[1, 2, 3])


@breaks(sabotage.lost_answers_taken_for_success, "is published as")
def an_append_without_an_answer_ends_in_a_takeover() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="freeze")
    world.lose_answer("A")
    world.run("A", "fenced", "run")
    end(world, W0000=[1, 2])


# -- the changelog before all else -----------------------------------------------------------------------------------


@breaks(sabotage.store_written_before_the_append, "recovered")
@breaks(sabotage.published_before_the_append, "is published as")
def nothing_happens_before_the_append() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="freeze")
    world.crash("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@breaks(sabotage.incomplete_frames_applied, "recovered")
def only_complete_frames_count() -> None:
    world = leading(1, 3, part_bytes=40)
    epoch(world, "A", 2, until="append")
    world.crash("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@breaks(sabotage.offsets_only_in_the_group, "not every event exactly once")
def offsets_are_part_of_the_state() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="write")
    world.crash("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@breaks(sabotage.repeated_records_counted, "not every event exactly once")
def records_delivered_again_are_dropped() -> None:
    world = leading(1, 3, 5)
    epoch(world, "A", 2)
    world.read("A", "calls", 1, again=2)
    end(world, W0000=[1, 2, 3])


@breaks(sabotage.live_values_published, "is published as")
@breaks(sabotage.frozen_values_not_read, "not every event exactly once")
def an_epoch_is_frozen_while_counting_goes_on() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="append")
    world.read("A", "calls", 1)
    world.run("A", "commit")
    end(world, W0000=[1, 2])


@breaks(sabotage.gaps_skipped, "recovered")
def a_missing_epoch_stops_the_recovery() -> None:
    world = leading(1, 12, 23)
    for _ in range(3):
        epoch(world, "A", 1)
    tag, generation, *rest = msgspec.msgpack.decode(world.log[2])
    world.log[2] = msgspec.msgpack.encode([tag, generation - 1, *rest])
    world.crash("A", "wiped")
    refuse(world, "A", "from epoch 1 to 3")


@breaks(sabotage.stores_ahead_of_the_log_used, "goes on")
def a_store_ahead_of_the_log_stops_the_recovery() -> None:
    world = leading(1, 3)
    epoch(world, "A", 2)
    world.log.clear()
    world.crash("A")
    refuse(world, "A", "the log ends at 0")


# -- what is published -----------------------------------------------------------------------------------------------


@breaks(sabotage.no_version_guard, "goes back")
def an_older_version_never_replaces_a_newer() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="write")
    world.assign("B")
    world.run("B", "run")
    epoch(world, "B", 1)
    world.run("A", "publish W0000")
    end(world, W0000=[1, 2])


@breaks(sabotage.nothing_republished, "the rows are")
@breaks(sabotage.last_outputs_not_stored, "the rows are")
def a_takeover_publishes_the_last_epoch_again() -> None:
    world = leading(1, 3)
    epoch(world, "A", 2, until="write")
    world.crash("A")
    end(world, W0000=[1, 2])


@breaks(sabotage.nothing_republished, "the rows are")
def a_worker_with_a_new_disk_publishes_the_last_epoch_again() -> None:
    world = leading(1, 3)
    epoch(world, "A", 2, until="append")
    world.crash("A", "wiped")
    end(world, W0000=[1, 2])


@breaks(sabotage.publishing_not_waited_for, "the rows are")
def the_next_epoch_waits_until_all_is_published() -> None:
    world = leading(12, 1)
    epoch(world, "A", 1)
    epoch(world, "A", 1, until="write")
    world.crash("A")
    end(world, W0000=[2], W0001=[1])


@breaks(sabotage.closed_announced_first, "announced as closed")
def a_window_is_announced_as_closed_after_its_rows() -> None:
    world = leading(1, 12, 4)
    epoch(world, "A", 2)
    end(world, W0000=[1, 3], W0001=[2])


# -- what expires ----------------------------------------------------------------------------------------------------


@breaks(sabotage.marks_expire_at_the_event_time, "the rows are")
def a_mark_lasts_as_long_as_its_event_is_not_late() -> None:
    events = [Event(1, "c", "a", 3), Event(2, "c", "b", 14), Event(3, "c", "a", 3)]
    world = World({"calls": events}, lateness=10)
    world.assign("A")
    end(world, W0000=[1], W0001=[2], Lduplicate=[3])


@breaks(sabotage.rows_expire_unpublished, "not every event exactly once")
def a_row_that_expires_in_its_first_epoch_is_published() -> None:
    world = leading(1, 35, lateness=10)
    end(world, W0000=[1], W0003=[2])


@breaks(sabotage.rows_expire_while_postgres_waits, "the state has no such row")
def a_row_that_postgres_waits_for_does_not_expire() -> None:
    world = leading(1, 35, 37, lateness=10, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    end(world, W0000=[1], W0003=[2, 3])


# -- a sink that lags behind -----------------------------------------------------------------------------------------


@breaks(sabotage.nothing_moved_to_the_outbox, "the rows are")
def what_postgres_has_not_taken_is_kept() -> None:
    world = leading(1, 12, lagging=True)
    epoch(world, "A", 1)
    epoch(world, "A", 1)
    end(world, W0000=[1], W0001=[2])


@breaks(sabotage.outbox_not_stored, "the rows are")
def the_outbox_survives_a_kill() -> None:
    world = leading(1, 12, 14, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    world.crash("A")
    end(world, W0000=[1], W0001=[2, 3])


@breaks(sabotage.outbox_not_restored, "the rows are")
@breaks(sabotage.drained_too_early, "the rows are")
def the_outbox_is_restored_from_the_changelog() -> None:
    world = leading(1, 12, 14, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    world.crash("A", "wiped")
    end(world, W0000=[1], W0001=[2, 3])


@breaks(sabotage.outbox_not_restored, "the rows are")
def the_outbox_is_restored_by_a_recovery_that_was_killed() -> None:
    world = leading(1, 12, 23, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    world.crash("A", "wiped")
    world.run("A", "replay", "replay", "replay")
    world.crash("A")
    end(world, W0000=[1], W0001=[2], W0002=[3])


@breaks(sabotage.deleted_rows_restored_to_the_outbox, "the state has no such row")
def the_outbox_is_restored_without_rows_that_expired() -> None:
    world = leading(1, 12, 35, lateness=10, lagging=True)
    epoch(world, "A", 2)
    world.send("A", limit=1)
    world.ack("A")
    epoch(world, "A", 1)
    world.crash("A", "wiped")
    end(world, W0000=[1], W0001=[2], W0003=[3])


@breaks(sabotage.outbox_keeps_the_first_version, "is published as")
@breaks(sabotage.sinks_add_differences, "the rows are")
def the_outbox_holds_the_latest_version_of_a_row() -> None:
    world = leading(1, 3, 12, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    end(world, W0000=[1, 2], W0001=[3])


SCENARIOS = list(dict.fromkeys(scenario for scenario, _, _ in RULES))


@pytest.fixture(autouse=True)
def small_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_CHANGES_PER_WRITE", 1)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_rule(scenario: Scenario) -> None:
    scenario()


@pytest.mark.parametrize(
    ("scenario", "by", "wrong"), RULES, ids=[f"{by.__name__}-{scenario.__name__}" for scenario, by, _ in RULES]
)
def test_rule_is_needed(scenario: Scenario, by: Sabotage, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by(monkeypatch)
    with pytest.raises(Wrong, match=wrong):
        scenario()


def test_a_run_that_begins_too_late_is_refused() -> None:
    world = leading(1, 3)
    unit = world.workers["A"].unit
    assert unit is not None
    assert not unit.apply("calls", Run(1, 2, [b"not looked at"]))
    assert unit.offsets == {}


def test_a_unit_refuses_the_next_epoch_before_the_last_is_published() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="write")
    unit = world.workers["A"].unit
    assert unit is not None
    with pytest.raises(AssertionError, match="acknowledged before the next"):
        unit.freeze()
