"""Rules of snapshots and of the changelog's head, one scenario each, and the proof that each is needed."""

import pytest

import checkpoint_sabotage_snapshots as sabotage
from checkpoint_counting import Event
from checkpoint_scenario import Rules, Sabotage, Scenario, end, epoch, goes_wrong, leading
from checkpoint_world import World
from streamlens.checkpoint import unit

RULES = Rules()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "SNAPSHOT_PIECE_BYTES", 1)  # One part beside each epoch.


def snapshotting(*times: int, parts: bool = False, lagging: bool = False) -> World:
    """A world of calls, led by A, whose first snapshot begins after the first epoch; in one part or in some `parts`."""
    return leading(*times, part_bytes=60 if parts else 1_000_000, lagging=lagging, snapshot_min_bytes=1)


def epochs(world: World, name: str, until: str) -> None:
    """Epochs of one call each, until this step of a snapshot."""
    label = ""
    while label != until:
        assert world.read(name, "calls", 1)
        label = world.step(name)
        assert label != "idle", "more calls are needed"
        while label not in (until, "piece", "cut", "commit"):
            label = world.step(name)


def restart(world: World, name: str, disk: str) -> None:
    world.crash(name, disk)
    world.assign(name)
    world.run(name, "run")


# -- what is in a snapshot -------------------------------------------------------------------------------------------


@RULES.needed(sabotage.last_epochs_outputs_left_out, "the rows are")
def a_snapshot_holds_what_the_last_epoch_published() -> None:
    world = snapshotting(1, 12, lagging=True)
    epoch(world, "A", 1, until="cut")
    restart(world, "A", "wiped")
    end(world, W0000=[1], W0001=[2])


@RULES.needed(sabotage.outbox_left_out, "the rows are")
def a_snapshot_holds_the_outbox() -> None:
    world = snapshotting(1, 12, 23, 34, lagging=True)
    epoch(world, "A", 1, until="cut")
    epochs(world, "A", "cut")
    restart(world, "A", "wiped")
    end(world, W0000=[1], W0001=[2], W0002=[3], W0003=[4])


@RULES.needed(sabotage.marks_left_out, "recovered")
def a_snapshot_holds_the_marks_of_duplicates() -> None:
    world = World({"calls": [Event(1, "c", "a", 1), Event(2, "c", "a", 1)]}, snapshot_min_bytes=1)
    world.assign("A")
    world.run("A", "run")
    epoch(world, "A", 1, until="cut")
    restart(world, "A", "wiped")
    end(world, W0000=[1], Lduplicate=[2])


# -- which snapshot is used, and how ---------------------------------------------------------------------------------


@RULES.needed(sabotage.read_on_from_the_end_of_the_snapshot, "recovered")
@RULES.needed(sabotage.head_cut_up_to_the_end_of_the_snapshot, "no usable snapshot")
def epochs_between_the_parts_of_a_snapshot_count() -> None:
    world = snapshotting(1, 12, 23, 34, 45, parts=True)
    epochs(world, "A", "cut")
    restart(world, "A", "wiped")
    world.drain()


@RULES.needed(sabotage.generation_guessed_at_the_first_record, "recovered")
def a_snapshot_says_the_generation_in_force() -> None:
    world = snapshotting(1, 12, 23, 34)
    epoch(world, "A", 1, until="cut")
    epoch(world, "A", 1, until="freeze")
    world.assign("B")
    world.run("B", "run")
    epochs(world, "B", "snapshot")
    world.run("A", "append")  # Void, and the first record that is left once B has cut the head.
    world.run("B", "cut")
    epoch(world, "B", 1)
    restart(world, "B", "wiped")
    end(world, W0000=[1], W0001=[2], W0002=[3], W0003=[4])


@RULES.needed(sabotage.snapshots_of_what_is_gone_used, "recovered")
def a_snapshot_of_what_is_gone_is_not_used() -> None:
    world = snapshotting(1, 12, 23, 34)
    epoch(world, "A", 1, until="snapshot")
    world.assign("B")
    world.run("B", "run")
    epochs(world, "B", "snapshot")
    world.run("A", "append", "fenced")  # The first snapshot that is left once B has cut the head.
    world.run("B", "cut")
    restart(world, "B", "wiped")
    end(world, W0000=[1], W0001=[2], W0002=[3], W0003=[4])


@RULES.needed(sabotage.incomplete_snapshots_used, "recovered")
def an_incomplete_snapshot_is_not_used() -> None:
    world = snapshotting(*range(1, 300, 10), parts=True)
    epochs(world, "A", "cut")
    epochs(world, "A", "piece")
    restart(world, "A", "wiped")
    world.drain()


@RULES.needed(sabotage.half_restored_stores_used, "recovered")
def a_half_restored_store_is_restored_again() -> None:
    world = snapshotting(1, 12, 23, 34, 45, parts=True)
    epochs(world, "A", "cut")
    world.crash("A", "wiped")
    world.assign("A")
    world.run("A", "replay")  # The mark, and the first part, which says where the store stands.
    restart(world, "A", "kept")
    world.drain()


@RULES.needed(sabotage.stores_not_wiped_before_a_restore, "recovered")
@RULES.needed(sabotage.log_start_not_looked_at, "recovered")
def a_store_below_the_logs_start_is_wiped_and_restored() -> None:
    calls = [Event(1, "q", "a", 1), *(Event(n, "c", f"b{n}", 10 * n) for n in range(3, 8))]
    world = World({"calls": calls, "responses": [Event(2, "r", "a", 2)]}, snapshot_min_bytes=1)
    world.assign("A")
    world.run("A", "run")
    epoch(world, "A", 1, until="cut")
    world.copy("A")  # The request waits for its response.
    world.read("A", "responses", 1)
    epochs(world, "A", "cut")
    restart(world, "A", "stale")
    world.drain()


# -- who cuts the head -----------------------------------------------------------------------------------------------


@RULES.needed(sabotage.head_cut_without_a_fence, "no usable snapshot")
def a_zombie_does_not_cut_the_head() -> None:
    world = snapshotting(1, 3)
    epoch(world, "A", 1, until="snapshot")
    world.assign("B")
    world.run("B", "run")
    world.run("A", "append")
    world.step("A", 3)  # Reads what came between and is fenced; without a fence it cuts here.
    restart(world, "B", "wiped")
    end(world, W0000=[1, 2])


@RULES.needed(sabotage.head_cut_before_the_snapshot_is_complete, "no usable snapshot")
def the_head_stays_until_the_snapshot_is_complete() -> None:
    world = snapshotting(1, 3, parts=True)
    epoch(world, "A", 1, until="snapshot")
    world.run("A", "append", "idle")
    restart(world, "A", "wiped")
    end(world, W0000=[1, 2])


# -- who is overtaken by the cut -------------------------------------------------------------------------------------


@RULES.needed(sabotage.log_start_not_looked_at, "is published as")
def a_zombie_whose_gap_is_deleted_is_fenced() -> None:
    world = leading(1, 12, 23, 34)
    epoch(world, "A", 1)
    epoch(world, "A", 1, until="freeze")
    world.snapshot_min_bytes = 1
    world.assign("B")
    world.run("B", "run")
    epochs(world, "B", "cut")
    world.run("A", "append", "fenced")
    end(world, W0000=[1], W0001=[2], W0002=[3], W0003=[4])


def _b_asks_and_is_overtaken(world: World, *steps: str, until: str) -> None:
    """B appends its takeover and comes to these steps; then A has the partition again, and takes a snapshot."""
    epoch(world, "A", 1)
    world.assign("B")
    world.run("B", *steps)
    restart(world, "A", "kept")
    epochs(world, "A", until)


@RULES.needed(sabotage.log_start_not_looked_at, "recovered")
def a_takeover_below_the_logs_start_is_fenced() -> None:
    world = snapshotting(1, 12, 23, 34)
    _b_asks_and_is_overtaken(world, "look", until="cut")
    world.run("B", "fenced", "off")
    end(world, W0000=[1], W0001=[2], W0002=[3], W0003=[4])


@RULES.needed(sabotage.log_start_not_looked_at, "recovered")
def a_takeover_that_reads_while_the_head_is_cut_is_fenced() -> None:
    world = snapshotting(1, 12, 23, 34)
    _b_asks_and_is_overtaken(world, "look", "read", until="cut")
    world.run("B", "fenced", "off")
    end(world, W0000=[1], W0001=[2], W0002=[3], W0003=[4])


@RULES.needed(sabotage.later_owners_not_looked_for, "no usable snapshot")
def a_takeover_between_the_logs_start_and_the_first_snapshot_is_fenced() -> None:
    world = snapshotting(1, 12, 23, 34)
    _b_asks_and_is_overtaken(world, "look", until="complete")
    world.retain(1)
    world.run("B", "fenced", "off")
    end(world, W0000=[1], W0001=[2], W0002=[3], W0003=[4])


@RULES.needed(sabotage.later_owners_not_looked_for, "no usable snapshot")
def a_snapshot_whose_next_record_is_deleted_is_not_used() -> None:
    world = snapshotting(1, *range(12, 200, 10))
    epoch(world, "A", 1, until="freeze")
    world.lose_answer("A")
    world.run("A", "fenced", "run")
    epochs(world, "A", "snapshot")
    world.land()  # Void, where the snapshot says to read on.
    world.run("A", "complete")
    old = world.truth.replaced
    world.assign("B")
    world.run("B", "look")
    restart(world, "A", "kept")
    epochs(world, "A", "complete")
    world.retain(old + 1)
    world.run("B", "fenced", "off")
    world.drain()


@RULES.each()
def test_rule(scenario: Scenario) -> None:
    scenario()


@RULES.each_broken()
def test_rule_is_needed(scenario: Scenario, by: Sabotage, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by(monkeypatch)
    goes_wrong(scenario, wrong)


def test_a_snapshot_that_was_restored_is_not_written_again() -> None:
    world = snapshotting(*range(1, 100, 10))
    epochs(world, "A", "cut")
    epochs(world, "A", "cut")
    restart(world, "A", "wiped")
    epoch(world, "A", 1)
    assert world.step("A") == "idle"
