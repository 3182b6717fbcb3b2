"""Rules of what is published, expires, and waits for a sink that lags; each with the proof that it is needed."""

import pytest

import checkpoint_sabotage_sinks as sabotage
from checkpoint_counting import Event
from checkpoint_scenario import Rules, Sabotage, Scenario, end, epoch, goes_wrong, leading
from checkpoint_world import World
from streamlens.checkpoint import replay

RULES = Rules()


@pytest.fixture(autouse=True)
def small_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_CHANGES_PER_WRITE", 1)  # So that a kill can fall between two writes of a replay.


# -- what is published -----------------------------------------------------------------------------------------------


@RULES.needed(sabotage.no_version_guard, "goes back")
def an_older_version_never_replaces_a_newer() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="write")
    world.assign("B")
    world.run("B", "run")
    epoch(world, "B", 1)
    world.run("A", "publish W0000")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.nothing_republished, "the rows are")
@RULES.needed(sabotage.last_outputs_not_stored, "the rows are")
def a_takeover_publishes_the_last_epoch_again() -> None:
    world = leading(1, 3)
    epoch(world, "A", 2, until="write")
    world.crash("A")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.nothing_republished, "the rows are")
def a_worker_with_a_new_disk_publishes_the_last_epoch_again() -> None:
    world = leading(1, 3)
    epoch(world, "A", 2, until="append")
    world.crash("A", "wiped")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.publishing_not_waited_for, "the rows are")
def the_next_epoch_waits_until_all_is_published() -> None:
    world = leading(12, 1)
    epoch(world, "A", 1)
    epoch(world, "A", 1, until="write")
    world.crash("A")
    end(world, W0000=[2], W0001=[1])


@RULES.needed(sabotage.closed_announced_first, "announced as closed")
def a_window_is_announced_as_closed_after_its_rows() -> None:
    world = leading(1, 12, 4)
    epoch(world, "A", 2)
    end(world, W0000=[1, 3], W0001=[2])


# -- what expires ----------------------------------------------------------------------------------------------------


@RULES.needed(sabotage.marks_expire_at_the_event_time, "the rows are")
def a_mark_lasts_as_long_as_its_event_is_not_late() -> None:
    events = [Event(1, "c", "a", 3), Event(2, "c", "b", 14), Event(3, "c", "a", 3)]
    world = World({"calls": events}, lateness=10)
    world.assign("A")
    end(world, W0000=[1], W0001=[2], Lduplicate=[3])


@RULES.needed(sabotage.rows_expire_unpublished, "not every event exactly once")
def a_row_that_expires_in_its_first_epoch_is_published() -> None:
    world = leading(1, 35, lateness=10)
    end(world, W0000=[1], W0003=[2])


@RULES.needed(sabotage.rows_expire_while_postgres_waits, "the state has no such row")
def a_row_that_postgres_waits_for_does_not_expire() -> None:
    world = leading(1, 35, 37, lateness=10, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    end(world, W0000=[1], W0003=[2, 3])


# -- a sink that lags behind -----------------------------------------------------------------------------------------


@RULES.needed(sabotage.nothing_moved_to_the_outbox, "the rows are")
def what_postgres_has_not_taken_is_kept() -> None:
    world = leading(1, 12, lagging=True)
    epoch(world, "A", 1)
    epoch(world, "A", 1)
    end(world, W0000=[1], W0001=[2])


@RULES.needed(sabotage.outbox_not_stored, "the rows are")
def the_outbox_survives_a_kill() -> None:
    world = leading(1, 12, 14, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    world.crash("A")
    end(world, W0000=[1], W0001=[2, 3])


@RULES.needed(sabotage.outbox_not_restored, "the rows are")
@RULES.needed(sabotage.drained_too_early, "the rows are")
def the_outbox_is_restored_from_the_changelog() -> None:
    world = leading(1, 12, 14, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    world.crash("A", "wiped")
    end(world, W0000=[1], W0001=[2, 3])


@RULES.needed(sabotage.outbox_not_restored, "the rows are")
def the_outbox_is_restored_by_a_recovery_that_was_killed() -> None:
    world = leading(1, 12, 23, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    world.crash("A", "wiped")
    world.run("A", "replay", "replay", "replay")
    world.crash("A")
    end(world, W0000=[1], W0001=[2], W0002=[3])


@RULES.needed(sabotage.deleted_rows_restored_to_the_outbox, "the state has no such row")
def the_outbox_is_restored_without_rows_that_expired() -> None:
    world = leading(1, 12, 35, lateness=10, lagging=True)
    epoch(world, "A", 2)
    world.send("A", limit=1)
    world.ack("A")
    epoch(world, "A", 1)
    world.crash("A", "wiped")
    end(world, W0000=[1], W0001=[2], W0003=[3])


@RULES.needed(sabotage.outbox_keeps_the_first_version, "is published as")
@RULES.needed(sabotage.sinks_add_differences, "the rows are")
def the_outbox_holds_the_latest_version_of_a_row() -> None:
    world = leading(1, 3, 12, lagging=True)
    for _ in range(3):
        epoch(world, "A", 1)
    end(world, W0000=[1, 2], W0001=[3])


@RULES.needed(sabotage.answers_taken_for_the_latest_version, "the rows are")
def an_answer_of_postgres_counts_for_the_version_that_was_sent() -> None:
    world = leading(1, 3, lagging=True)
    epoch(world, "A", 1)
    world.send("A")
    epoch(world, "A", 1)
    world.ack("A")
    end(world, W0000=[1, 2])


def _row_sent_from_the_outbox(*times: int) -> World:
    """Two epochs are over; the row of the first was sent from the outbox, and the answer is still to come."""
    world = leading(*times, lagging=True)
    epoch(world, "A", 1)
    epoch(world, "A", 1)
    world.send("A", limit=9)
    world.ack("A")
    world.send("A", limit=9)
    assert b"W0001" in world.workers["A"].sent
    return world


@RULES.needed(sabotage.answers_taken_for_the_latest_version, "the rows are")
def an_answer_counts_for_the_version_that_was_in_the_outbox() -> None:
    world = _row_sent_from_the_outbox(12, 1, 14, 3)
    epoch(world, "A", 1)
    epoch(world, "A", 1)
    world.ack("A")
    end(world, W0000=[2, 4], W0001=[1, 3])


@RULES.needed(sabotage.rows_answered_and_changed_counted_twice, "the rows are")
def a_row_answered_and_changed_meanwhile_stays_in_the_outbox() -> None:
    world = _row_sent_from_the_outbox(12, 1, 14, 3)
    epoch(world, "A", 1)
    world.ack("A")
    epoch(world, "A", 1)
    end(world, W0000=[2, 4], W0001=[1, 3])


@RULES.each()
def test_rule(scenario: Scenario) -> None:
    scenario()


@RULES.each_broken()
def test_rule_is_needed(scenario: Scenario, by: Sabotage, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by(monkeypatch)
    goes_wrong(scenario, wrong)


def test_a_unit_refuses_the_next_epoch_before_the_last_is_published() -> None:
    world = leading(1, 3)
    epoch(world, "A", 1, until="write")
    unit = world.workers["A"].unit
    assert unit is not None
    with pytest.raises(AssertionError, match="acknowledged before the next"):
        unit.freeze()
