"""What strikes where: for each kind of safeguard the faults, and the settings, under which it is needed soon."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from chaos import failpoints, faults, generator, verdict
from chaos.failpoints import KILL, STOP
from streamlens.checkpoint import unit
from streamlens.checkpoint.appends import Appends
from streamlens.checkpoint.stage import Stage
from streamlens.checkpoint.unit import Unit
from streamlens.errors import Unavailable
from streamlens.log import UNKNOWN_OFFSET

_AT_ONCE_S = {"worker": (1.0, 4.0), "broker": (2.0, 6.0), "postgres": (0.2, 1.5)}


class Aim(NamedTuple):
    """A run's faults. `tune` changes all workers, mutants and control alike; `environ` is theirs too."""

    name: str
    kinds: tuple[str, ...]
    seconds: float = 45.0
    workers: int = 3
    steps: tuple[str, ...] = ()
    """The failpoints, where a kind is of these."""
    is_freezing: bool = False
    """No failpoint kills: all stop the worker, until others own its partitions."""
    passes: int = 12
    """It strikes at one of the first so many."""
    lulls_s: Mapping[str, tuple[float, float]] = _AT_ONCE_S
    environ: tuple[tuple[str, str], ...] = ()
    tune: Callable[[], None] = lambda: None
    prepare: Callable[[], None] = lambda: None
    """Changes the suite's own process."""

    def set(self) -> None:
        """Narrow this process' suite to the aim."""
        faults.LULLS_S.update(self.lulls_s)
        verdict.CAUGHT_UP_S = 45.0
        if self.steps:
            steps = {name: failpoints.STEPS[name] for name in self.steps}
            steps = {name: step._replace(passes=min(step.passes, self.passes)) for name, step in steps.items()}
            vars(faults).update(STEPS=steps, KILL=STOP if self.is_freezing else KILL)
        self.prepare()


def _cut_frames() -> None:
    """Small parts, each an append of its own, on a slow log: a frame is under way for a while."""
    _defaults(Unit)["part_bytes"] = 512
    unit.SNAPSHOT_PIECE_BYTES = 4 << 10
    own = Appends.own

    async def one_by_one(self: Appends, records: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        bases: dict[int, int] = {}
        for number in range(max(map(len, records.values()), default=0)):
            parts = {p: [of[number]] for p, of in records.items() if number < len(of)}
            for p, offset in (await own(self, parts)).items():
                if offset == UNKNOWN_OFFSET or offset != bases.setdefault(p, offset) + number:
                    bases[p] = UNKNOWN_OFFSET
            await asyncio.sleep(0.02)
        return bases

    Appends.own = one_by_one  # type: ignore[method-assign]


def _small_snapshots() -> None:
    """Snapshots all the time, each over several epochs."""
    _defaults(Stage)["snapshot_min_bytes"] = 16 << 10
    _defaults(Unit)["part_bytes"] = 4 << 10
    unit.SNAPSHOT_PIECE_BYTES = 24 << 10


def _lost_appends() -> None:
    """Of ten appends to changelogs one is lost, and of another one the answer."""
    own = Appends.own

    async def lose_some(self: Appends, records: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        lost = dict.fromkeys(records, UNKNOWN_OFFSET)
        drawn = random.random()
        if drawn < 0.1:
            return lost
        bases = await own(self, records)
        return lost if drawn < 0.2 else bases

    Appends.own = lose_some  # type: ignore[method-assign]


def _straying_consumer() -> None:
    """A consumer that goes back, or skips to the end, without being asked."""
    tick = Stage.tick

    async def tick_and_stray(self: Stage) -> None:
        await tick(self)
        with suppress(Unavailable):
            ends = await self._log.offsets(list(self.source_offsets()))
            for tp, offset in self.source_offsets().items():
                if random.random() < 0.1:
                    self._member.seek_now(tp, random.choice((max(ends[tp][0], offset - 20), ends[tp][1])))

    Stage.tick = tick_and_stray  # type: ignore[method-assign]


def _expiring_windows() -> None:
    """Long epochs of stage one, in which windows have their last event and expire."""
    run = Stage.run

    async def run_slowly(self: Stage, interval_s: float) -> None:
        await run(self, interval_s if self.lagging_sink else 12.0)

    Stage.run = run_slowly  # type: ignore[method-assign]


def _fresh_events() -> None:
    """No event is older than a second."""
    generator._OLDEST_US = 1
    generator.Generator._delay_us = lambda self: self._random.randrange(generator.SECOND_US)  # type: ignore[method-assign]


def _defaults(owner: type) -> dict[str, object]:
    defaults: dict[str, object] = owner.__init__.__kwdefaults__  # type: ignore[misc]
    return defaults


_SLOW_S = {"worker": (8.0, 14.0)}
"""For stock Faust: enough time to recover and to commit between two faults."""
_LINES = (
    ("STREAMLENS_JOIN_TIMEOUT_S", "0"),
    ("STREAMLENS_OUT_OF_ORDER_S", "1"),
    ("STREAMLENS_ALLOWED_LATENESS_S", "3"),
)
_ALL = (
    Aim("ended sessions", ("postgres_sessions",), 20.0),
    Aim("zombies", ("worker_freeze",)),
    Aim(
        "frozen before the append",
        ("worker_failpoint",),
        60.0,
        steps=("before the append",),
        is_freezing=True,
        passes=2,
        environ=(("STREAMLENS_CHECKPOINT_INTERVAL_S", "5"),),
    ),
    Aim("lost appends", ("worker_kill", "worker_wiped"), tune=_lost_appends),
    Aim("a straying consumer", ("worker_freeze",), tune=_straying_consumer),
    Aim("cut frames", ("worker_kill", "worker_wiped"), tune=_cut_frames),
    Aim(
        "crashes",
        ("worker_failpoint", "worker_wiped"),
        steps=(
            "before the append",
            "appended",
            "fence passed",
            "store written",
            "before publishing",
            "before the commit",
        ),
    ),
    Aim("postgres away", ("postgres_kill", "worker_wiped")),
    Aim(
        "frozen while publishing",
        ("worker_failpoint",),
        steps=("before publishing", "before the rows"),
        is_freezing=True,
    ),
    Aim("lost disks", ("worker_wiped",), 60.0, lulls_s={"worker": (4.0, 8.0)}, tune=_small_snapshots),
    Aim(
        "expiring windows",
        ("postgres_sessions",),
        workers=1,
        environ=_LINES,
        tune=_expiring_windows,
        prepare=_fresh_events,
    ),
)
_CALM_S = {"postgres": (20.0, 20.0)}
_ALONE = Aim("stock: one worker", ("postgres_sessions",), 20.0, 1, lulls_s=_CALM_S)
_KILLED = Aim("stock: one worker, kills", ("worker_kill",), 45.0, 1, lulls_s=_SLOW_S)
STOCK = (
    (_ALONE, "at_least_once", True),
    (_KILLED, "at_least_once", False),
    (Aim("stock: two workers, zombies", ("worker_freeze",), lulls_s=_SLOW_S), "at_least_once", False),
    (_ALONE, "exactly_once", True),
    (_KILLED, "exactly_once", False),
    (Aim("stock: two workers", ("postgres_sessions",), 20.0, lulls_s=_CALM_S), "exactly_once", False),
)
"""The faults, Faust's guarantee, and whether its rows should be right."""
AIMS = {aim.name: aim for aim in (*_ALL, *(aim for aim, _, _ in STOCK))}
