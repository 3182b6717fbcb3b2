"""Any interleaving of checkpoints, kills, lost partitions, lost answers and dead sinks ends in the right rows.

The search is the same in every run. For a longer one with fresh seeds: `CHECKPOINT_EXAMPLES=50000 pytest
tests/test_checkpoint_random.py`; hypothesis prints the shortest list of actions that fails.
"""

import os
from collections.abc import Callable

import pytest
from checkpoint_counting import CLEAR, Event
from checkpoint_world import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamlens.checkpoint import replay

_EXAMPLES = int(os.environ.get("CHECKPOINT_EXAMPLES", "0"))
search = settings(
    max_examples=_EXAMPLES or 700,
    derandomize=not _EXAMPLES,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

Action = tuple[object, ...]
WORKERS = st.sampled_from("AAB")

ACTION = st.one_of(
    st.tuples(st.just("step"), WORKERS, st.integers(1, 7)),
    st.tuples(st.just("step"), WORKERS, st.integers(1, 7)),
    st.tuples(st.just("step"), WORKERS, st.integers(1, 7)),
    st.tuples(st.just("read"), WORKERS, st.sampled_from(["calls", "responses"]), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("read"), WORKERS, st.sampled_from(["calls", "responses"]), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("assign"), WORKERS),
    st.tuples(st.just("crash"), WORKERS, st.sampled_from(["kept", "wiped", "stale"])),
    st.tuples(st.just("copy"), WORKERS),
    st.tuples(st.just("idle"), WORKERS),
    st.tuples(st.just("lose_answer"), WORKERS),
    st.tuples(st.just("land")),
    st.tuples(st.just("postgres"), st.booleans()),
    st.tuples(st.just("send"), WORKERS, st.integers(1, 3)),
    st.tuples(st.just("ack"), WORKERS),
)


@st.composite
def traffic(draw: st.DrawFn) -> dict[str, list[Event]]:
    """Up to ten calls, or halves of calls, that go forward in time with steps back."""
    sources: dict[str, list[Event]] = {"calls": [], "responses": []}
    ts = 0
    for uid in range(1, draw(st.integers(1, 10)) + 1):
        ts = max(0, ts + draw(st.sampled_from([1, 0, 4, 9, 15, -3, -12])))
        kind = draw(st.sampled_from("cqr"))
        rid = ("c" if kind == "c" else "j") + draw(st.sampled_from("abcd"))
        sources["responses" if kind == "r" else "calls"].append(Event(uid, kind, rid, ts))
    return sources


def play(world: World, actions: list[Action]) -> None:
    """Do these actions, then let the faults end. Actions that make no sense at the time do nothing."""
    do: dict[object, Callable[..., object]] = {
        name: getattr(world, name) for name in ("step", "read", "assign", "crash", "copy", "idle", "send", "ack")
    }
    world.assign("B")
    world.assign("A")
    for name, *arguments in actions:
        if name == "postgres":
            world.postgres.up = bool(arguments[0])
        elif name in ("land", "lose_answer"):
            getattr(world, str(name))(*arguments)
        else:
            do[name](*arguments)
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

    @search
    @given(
        traffic(),
        st.sampled_from([1_000_000, 40]),
        st.integers(0, 60).flatmap(lambda n: st.lists(ACTION, min_size=n, max_size=n)),
    )
    def run(sources: dict[str, list[Event]], part_bytes: int, actions: list[Action]) -> None:
        play(World(sources, lateness=lateness, lagging=lagging, part_bytes=part_bytes), actions)

    run()
