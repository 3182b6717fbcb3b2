"""Rules of takeover, fence and changelog, one scenario each, and the proof that each is needed: see `Rules`."""

import msgspec
import pytest

import checkpoint_sabotage as sabotage
from checkpoint_scenario import Rules, Sabotage, Scenario, calls, end, epoch, goes_wrong, leading, refuse
from streamlens.log import Run

RULES = Rules()

# -- takeover, generation, fence -------------------------------------------------------------------------------------


@RULES.needed(sabotage.no_fence, "is published as")
@RULES.needed(sabotage.fence_checked_before_the_append, "is published as")
@RULES.needed(sabotage.generations_ignored, "from epoch 1 to 1")
@RULES.needed(sabotage.highest_generation_without_takeover, "from epoch 1 to 1")
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


@RULES.needed(sabotage.no_fence, "recovered")
def a_fenced_zombie_leaves_its_store_alone() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="freeze")
    world.assign("B")
    world.run("B", "run")
    world.run("A", "append")
    world.step("A", 2)  # Reads what came between and is fenced; without a fence it writes its store here.
    world.crash("A")
    world.assign("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.no_fence, "is published as")
def a_takeover_that_lands_late_fences_its_own_worker() -> None:
    world = calls(1, 3)
    world.run("A", "ask")
    world.lose_answer("A")
    world.run("A", "run")
    epoch(world, "A", 1, until="freeze")
    world.land()
    world.run("A", "append", "fenced", "run")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.split_appends_acknowledged, "is published as")
def parts_that_are_not_side_by_side_are_of_unknown_fate() -> None:
    world = leading(1, 3, part_bytes=40)
    epoch(world, "A", 2, until="append")
    world.assign("B")
    world.run("B", "run")
    world.run("A", "fenced")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.same_epoch_again_after_a_lost_answer, "follows part")
def an_epoch_number_is_never_used_again() -> None:
    world = leading(1, 3, 5)
    epoch(world, "A", 1, until="append")
    world.lose_answer("A")
    world.read("A", "calls", 1)
    world.run("A", "fenced", "run")
    end(world, W0000=[1, 2, 3])


@RULES.needed(sabotage.lost_answers_taken_for_success, "is published as")
def an_append_without_an_answer_ends_in_a_takeover() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="freeze")
    world.lose_answer("A")
    world.run("A", "fenced", "run")
    end(world, W0000=[1, 2])


# -- the changelog before all else -----------------------------------------------------------------------------------


@RULES.needed(sabotage.store_written_before_the_append, "recovered")
@RULES.needed(sabotage.published_before_the_append, "is published as")
def nothing_happens_before_the_append() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="freeze")
    world.crash("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.incomplete_frames_applied, "recovered")
def only_complete_frames_count() -> None:
    world = leading(1, 3, part_bytes=40)
    epoch(world, "A", 2, until="append")
    world.crash("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.offsets_only_in_the_group, "not every event exactly once")
def offsets_are_part_of_the_state() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="write")
    world.crash("A")
    world.run("A", "run")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.repeated_records_counted, "not every event exactly once")
def records_delivered_again_are_dropped() -> None:
    world = leading(1, 3, 5)
    epoch(world, "A", 2)
    world.read("A", "calls", 1, again=2)
    end(world, W0000=[1, 2, 3])


@RULES.needed(sabotage.live_values_published, "is published as")
@RULES.needed(sabotage.frozen_values_not_read, "not every event exactly once")
def an_epoch_is_frozen_while_counting_goes_on() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="append")
    world.read("A", "calls", 1)
    world.run("A", "commit")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.gaps_skipped, "recovered")
def a_missing_epoch_stops_the_recovery() -> None:
    world = leading(1, 12, 23)
    for _ in range(3):
        epoch(world, "A", 1)
    tag, generation, *rest = msgspec.msgpack.decode(world.log[2])
    world.log[2] = msgspec.msgpack.encode([tag, generation - 1, *rest])
    world.crash("A", "wiped")
    refuse(world, "A", "from epoch 1 to 3")


@RULES.needed(sabotage.stores_ahead_of_the_log_used, "goes on")
def a_store_ahead_of_the_log_stops_the_recovery() -> None:
    world = leading(1, 3)
    epoch(world, "A", 2)
    world.log.clear()
    world.crash("A")
    refuse(world, "A", "the log ends at 0")


@RULES.needed(sabotage.smaller_epochs_skipped, "goes on")
def a_store_of_another_log_stops_the_recovery() -> None:
    world, other = leading(1, 12, 23), leading(1)
    for _ in range(3):
        epoch(world, "A", 1)
    for _ in range(4):
        other.crash("A")
        other.run("A", "run")
    epoch(other, "A", 1)
    world.log[:] = other.log
    world.crash("A")
    refuse(world, "A", "from epoch 3 to 1")


@RULES.each()
def test_rule(scenario: Scenario) -> None:
    scenario()


@RULES.each_broken()
def test_rule_is_needed(scenario: Scenario, by: Sabotage, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by(monkeypatch)
    goes_wrong(scenario, wrong)


def test_a_run_that_begins_too_late_is_refused() -> None:
    world = leading(1, 3)
    unit = world.workers["A"].unit
    assert unit is not None
    assert not unit.apply("calls", Run(1, 2, [b"not looked at"]))
    assert unit.offsets == {}


def test_an_append_below_the_last_one_is_not_believed() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1)
    unit = world.workers["A"].unit
    assert unit is not None
    world.read("A", "calls", 1)
    frame = unit.freeze()
    assert frame is not None
    assert unit.fenced(frame.records, 1, [])
