"""What strikes where: for each kind of safeguard the faults, and the settings, under which it is needed soon."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from signal import Signals
from typing import NamedTuple

from chaos import failpoints, faults, generator, verdict
from chaos.failpoints import KILL, STOP
from streamlens.checkpoint import unit
from streamlens.checkpoint.appends import Appends
from streamlens.checkpoint.stage import Stage
from streamlens.checkpoint.unit import Unit
from streamlens.kafka.log import KafkaLog
from streamlens.log import UNKNOWN_OFFSET

_AT_ONCE_S = {"worker": (1.0, 4.0), "broker": (2.0, 6.0), "postgres": (1.0, 3.0)}


class Aim(NamedTuple):
    """A run's faults. `tune` changes all workers, mutants and control alike; `environ` is theirs too."""

    name: str
    kinds: tuple[str, ...]
    seconds: float = 45.0
    workers: int = 3
    steps: tuple[str, ...] = ()
    """The failpoints, where a kind is of these. All are struck as `strikes` says."""
    strikes: tuple[Signals, Signals] = (KILL, STOP)
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
        verdict.CAUGHT_UP_S = 60.0
        if self.steps:
            steps = {name: failpoints.STEPS[name] for name in self.steps}
            steps = {name: step._replace(passes=min(step.passes, self.passes)) for name, step in steps.items()}
            vars(faults).update(STEPS=steps, KILL=self.strikes[0], STOP=self.strikes[1])
        self.prepare()


def _cut_frames() -> None:
    """Small parts, each an append of its own, on a slow log: a frame is under way for a while."""
    _small_parts()
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


def _small_parts() -> None:
    """Snapshots take many epochs, and frames have many parts."""
    _defaults(Unit)["part_bytes"] = 4 << 10
    unit.SNAPSHOT_PIECE_BYTES = 12 << 10


def _silent_broker() -> None:
    """A log that gives up after a second instead of ten."""
    _defaults(KafkaLog)["deadline_s"] = 1.0


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


SLOW_S = {"worker": (8.0, 14.0)}
"""For stock Faust: enough time to recover and to commit between two faults."""
_LINES = (
    ("STREAMLENS_JOIN_TIMEOUT_S", "0"),
    ("STREAMLENS_OUT_OF_ORDER_S", "1"),
    ("STREAMLENS_ALLOWED_LATENESS_S", "3"),
)
_ALL = (
    Aim("nothing", ("postgres_sessions",), 20.0),
    Aim("zombies", ("worker_freeze",)),
    Aim(
        "frozen before the append",
        ("worker_failpoint",),
        60.0,
        steps=("before the append",),
        strikes=(STOP, STOP),
        passes=2,
        environ=(("STREAMLENS_CHECKPOINT_INTERVAL_S", "5"),),
    ),
    Aim("silent broker", ("broker_freeze", "broker_kill", "worker_kill"), tune=_silent_broker),
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
        strikes=(KILL, KILL),
    ),
    Aim("postgres away", ("postgres_kill", "worker_wiped")),
    Aim(
        "frozen while publishing",
        ("worker_failpoint",),
        steps=("before publishing", "before the rows"),
        strikes=(STOP, STOP),
    ),
    Aim("lost disks", ("worker_wiped",), tune=_small_parts),
    Aim(
        "expiring windows",
        ("postgres_sessions",),
        workers=1,
        environ=_LINES,
        tune=_expiring_windows,
        prepare=_fresh_events,
    ),
)
STOCK = (
    Aim("stock, nothing", ("postgres_sessions",), 20.0, lulls_s={"postgres": (20.0, 20.0)}),
    Aim("stock, kills", ("worker_kill",), lulls_s=SLOW_S),
    Aim("stock, zombies", ("worker_freeze",), lulls_s=SLOW_S),
)
AIMS = {aim.name: aim for aim in (*_ALL, *STOCK)}
