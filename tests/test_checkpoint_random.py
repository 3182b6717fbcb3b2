"""Any interleaving of checkpoints, snapshots, kills, lost partitions or answers, dead sinks ends in the right rows.

The search is the same in every run. For a longer one with fresh seeds: `CHECKPOINT_EXAMPLES=50000 pytest
tests/test_checkpoint_random.py`; hypothesis prints the shortest list of actions that fails.
"""

import os
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkpoint_counting import CLEAR, Event
from checkpoint_world import World
from streamlens.checkpoint import replay, unit

_EXAMPLES = int(os.environ.get("CHECKPOINT_EXAMPLES", "0"))
search = settings(
    max_examples=_EXAMPLES or 1_500,
    derandomize=not _EXAMPLES,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

Action = tuple[Any, ...]
TOPICS = ("calls", "responses")
ACTIONS: list[Action] = [
    *product(["epoch"], "AB", [1, 2], ["freeze", "append", "write", "commit"]),
    *product(["epoch"], "AB", [1, 2], ["snapshot", "piece", "complete", "cut"]),
    *product(["read"], "AB", TOPICS, [1, 3], [0, 2]),
    *product(["step"], "AABB", [1, 2, 4]),
    *product(["take_over"], "AB", ["run", "run", "run", "look", "replay"]),
    *product(["overtake"], "AB", ["kept", "wiped"], ["run", "complete"]),
    *product(["half_restore"], "AB", [2, 3]),
    *product(["assign"], "AB"),
    *product(["crash"], "AB", ["kept", "kept", "wiped", "stale"]),
    *product(["copy", "idle", "ack", "lose_answer"], "AB"),
    *product(["send"], "AB", [1, 3]),
    *product(["postgres_is"], [False, True]),
    *product(["retain"], [1, 5]),
    ("land",),
]
SCRIPT = st.integers(0, 50).flatmap(lambda n: st.lists(st.sampled_from(ACTIONS), min_size=n, max_size=n))
"""Left to itself, hypothesis makes lists of five elements on average: too short for two faults to meet."""


@st.composite
def traffic(draw: st.DrawFn) -> dict[str, list[Event]]:
    """Up to ten calls, or halves of calls, that go forward in time with steps back."""
    sources: dict[str, list[Event]] = {topic: [] for topic in TOPICS}
    ts = 0
    for uid in range(1, draw(st.integers(1, 10)) + 1):
        ts = max(0, ts + draw(st.sampled_from([1, 0, 4, 9, 15, -3, -12])))
        kind = draw(st.sampled_from("cqr"))
        rid = ("c" if kind == "c" else "j") + draw(st.sampled_from("abcd"))
        sources["responses" if kind == "r" else "calls"].append(Event(uid, kind, rid, ts))
    return sources


class Script:
    """The actions by name. One that makes no sense at the time does nothing."""

    def __init__(self, world: World) -> None:
        self.world = world

    def do(self, name: str, *arguments: object) -> None:
        getattr(self if hasattr(self, name) else self.world, name)(*arguments)

    def until(self, worker: str, label: str) -> bool:
        return any(self.world.step(worker) in (label, "idle", "off") for _ in range(60))

    def epoch(self, worker: str, count: int, label: str) -> None:
        if self.world.workers[worker].unit is None:
            self.until(worker, "run")
        for topic in self.world.sources:
            self.world.read(worker, topic, count)
        self.until(worker, label)

    def take_over(self, worker: str, label: str = "run") -> None:
        self.world.assign(worker)
        self.until(worker, label)

    def overtake(self, worker: str, disk: str, label: str) -> None:
        """The other worker, with this disk, takes over; before it reads the changelog, this one does, and goes on."""
        other = "B" if worker == "A" else "A"
        self.world.crash(other, disk)
        self.take_over(other, "look")
        self.take_over(worker)
        self.epoch(worker, 1, label)

    def half_restore(self, worker: str, writes: int) -> None:
        """A new disk, and a kill after some writes to it."""
        self.world.crash(worker, "wiped")
        self.world.assign(worker)
        for _ in range(writes):
            self.until(worker, "replay")
        self.world.crash(worker)

    def postgres_is(self, up: bool) -> None:
        self.world.postgres.up = up


def play(world: World, actions: list[Action]) -> None:
    """Do these actions, then let the faults end; late records land, and a worker with an empty disk takes over."""
    script = Script(world)
    script.take_over("B")
    script.take_over("A")
    for action in actions:
        script.do(*action)
    world.drain()
    while world.late:
        world.land()
    world.crash(world.owner, "wiped")
    world.drain()


@pytest.mark.parametrize("lateness", [CLEAR, 10], ids=["never_late", "late_and_expiring"])
@pytest.mark.parametrize("lagging", [False, True], ids=["log_sink", "postgres_too"])
def test_whatever_happens_each_event_is_counted_once(
    lateness: int, lagging: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_CHANGES_PER_WRITE", 4)  # So that kills fall between two writes of one replay.
    monkeypatch.setattr(unit, "SNAPSHOT_PIECE_BYTES", 200)  # And epochs between two pieces of a snapshot.

    @search
    @given(
        traffic(),
        st.sampled_from([1_000_000, 40]),
        st.sampled_from([1, 1, 1_000_000]),
        st.sampled_from([1, 4]),
        st.sampled_from([0, 1, 1_000]),
        SCRIPT,
    )
    def run(
        sources: dict[str, list[Event]],
        part_bytes: int,
        snapshot_min_bytes: int,
        run_records: int,
        published_before: int,
        actions: list[Action],
    ) -> None:
        world = World(
            sources,
            lateness=lateness,
            lagging=lagging,
            part_bytes=part_bytes,
            snapshot_min_bytes=snapshot_min_bytes,
            run_records=run_records,
            published_before=published_before,
        )
        play(world, actions)

    run()
