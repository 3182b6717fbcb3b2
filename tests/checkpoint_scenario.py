"""How a rule of the checkpoint is told: a scenario, and the sabotages under which it must go wrong.

A scenario drives the workers of `checkpoint_world.py` by the names of their steps and says what rows must come out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from checkpoint_counting import Event, encode
from checkpoint_truth import Wrong
from checkpoint_world import World
from streamlens.errors import Damaged

Sabotage = Callable[[pytest.MonkeyPatch], None]
Scenario = Callable[[], None]


class Rules:
    """The scenarios of one test module."""

    def __init__(self) -> None:
        self.scenarios: list[Scenario] = []
        self.breaks: list[tuple[Scenario, Sabotage, str]] = []

    def needed(self, by: Sabotage, wrong: str) -> Callable[[Scenario], Scenario]:
        """Under the sabotage `by`, the scenario ends in a failure whose message contains `wrong`."""

        def decorate(scenario: Scenario) -> Scenario:
            if scenario not in self.scenarios:
                self.scenarios.append(scenario)
            self.breaks.append((scenario, by, wrong))
            return scenario

        return decorate

    def each(self) -> pytest.MarkDecorator:
        return pytest.mark.parametrize("scenario", self.scenarios, ids=[each.__name__ for each in self.scenarios])

    def each_broken(self) -> pytest.MarkDecorator:
        ids = [f"{by.__name__}-{scenario.__name__}" for scenario, by, _ in self.breaks]
        return pytest.mark.parametrize(("scenario", "by", "wrong"), self.breaks, ids=ids)


def goes_wrong(scenario: Scenario, wrong: str) -> None:
    """The scenario must end in something visibly wrong, or be stopped by a recovery that sees it."""
    with pytest.raises((Wrong, Damaged), match=wrong):
        scenario()


def calls(*times: int, **options: Any) -> World:
    """A world, with its options, of calls 1, 2, 3... at these times; worker A is to lead it."""
    events = [Event(uid, "c", f"id{uid}", ts) for uid, ts in enumerate(times, 1)]
    world = World({"calls": events}, **options)
    world.assign("A")
    return world


def leading(*times: int, **options: Any) -> World:
    world = calls(*times, **options)
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
