"""The steps of checkpoint, recovery and hand-over at which a worker can be told to strike itself.

A strike is SIGKILL or SIGSTOP from inside, exactly there: what a fault from outside meets once in a thousand times.
"""

import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from functools import reduce, wraps
from typing import Any, Literal, NamedTuple

VARIABLE = "CHAOS_FAILPOINT"
KILL, STOP = signal.SIGKILL, signal.SIGSTOP


class Step(NamedTuple):
    """Before or after a call of `target`, `module:name.name`; `counts` says by its result which calls count."""

    target: str
    moment: Literal["before", "after"]
    passes: int = 1
    """It strikes at the first to this pass, drawn."""
    by: Literal["start", "wiped", "term", "rebalance"] = "start"
    """What brings it about: a start, one without the state, SIGTERM, or that other workers come and go."""
    counts: Callable[[Any], bool] = lambda _: True


_STAGE = "streamlens.checkpoint.stage"
_TAKEOVER = "streamlens.checkpoint.takeover"
_APPENDS = "streamlens.checkpoint.appends:Appends"
_UNIT = "streamlens.checkpoint.unit:Unit"
_STORE = "streamlens.postgres.store"
_RUNTIME = "streamlens.runtime:Runtime"
_TICKS = 6

STEPS = {
    # takeover and recovery
    "taking over": Step(f"{_STAGE}:take_over", "before", 3),
    "takeover appended": Step(f"{_TAKEOVER}:catch_up", "before", 3),
    "changelog replayed": Step(f"{_TAKEOVER}:catch_up", "after", 3),
    "store caught up": Step("streamlens.checkpoint.replay:Replay._write", "after", 3),
    "unit recovered": Step(f"{_UNIT}.recover", "after", 3),
    "sources checked": Step(f"{_STAGE}:check_sources", "after", 3),
    "last outputs sent again": Step(f"{_UNIT}.published", "before", 2),
    "partitions recovered": Step(f"{_STAGE}:Stage.take_over", "after", 2),
    "about to read": Step(f"{_RUNTIME}.resumed", "before"),
    "store cleared": Step("streamlens.checkpoint.store:RocksStore.clear", "after", 2, "wiped"),
    "snapshot half restored": Step("streamlens.checkpoint.snapshot:Restore.feed", "after", 2, "wiped"),
    "snapshot restored": Step(f"{_TAKEOVER}:_restore", "after", 2, "wiped"),
    # the checkpoint
    "before the append": Step(f"{_APPENDS}.own", "before", _TICKS),
    "appended": Step(f"{_APPENDS}.own", "after", _TICKS),
    "fence passed": Step(f"{_APPENDS}.is_fenced", "after", _TICKS),
    "before the store": Step(f"{_UNIT}.write", "before", _TICKS),
    "batch written": Step("streamlens.checkpoint.store:RocksStore.write", "after", 2 * _TICKS),
    "store written": Step(f"{_UNIT}.write", "after", _TICKS),
    "before publishing": Step(f"{_APPENDS}.publish", "before", _TICKS),
    "published": Step(f"{_APPENDS}.publish", "after", _TICKS),
    "publishing noted": Step(f"{_UNIT}.published", "after", _TICKS),
    "before the commit": Step(f"{_STAGE}:Stage._commit", "before", _TICKS),
    "committed": Step(f"{_STAGE}:Stage._commit", "after", _TICKS),
    # snapshots
    "snapshot piece made": Step(f"{_UNIT}.snapshot_records", "after", 4, counts=bool),
    "snapshot piece appended": Step(f"{_UNIT}.snapshot_appended", "before", 3),
    "between snapshot pieces": Step(f"{_UNIT}.snapshot_appended", "after", 2, counts=lambda at: at is None),
    "snapshot complete": Step(f"{_UNIT}.snapshot_appended", "after", counts=lambda at: at is not None),
    "head cut": Step(f"{_APPENDS}.cut", "after"),
    # rows to Postgres
    "before the rows": Step(f"{_STORE}:PostgresStore.write", "before", _TICKS),
    "rows not committed": Step(f"{_STORE}:_merge", "after", _TICKS),
    "rows committed": Step(f"{_STORE}:PostgresStore._put", "after", _TICKS),
    "rows noted": Step(f"{_UNIT}.acked", "after", _TICKS),
    "outbox moved": Step(f"{_UNIT}._move_to_outbox", "after", _TICKS),
    # the hand-over, and the end
    "giving up": Step(f"{_STAGE}:Stage.give_up", "before", 2, "rebalance"),
    "last checkpoint made": Step(f"{_UNIT}.drop", "before", 2, "rebalance"),
    "given up": Step(f"{_RUNTIME}.revoke", "after", 1, "rebalance"),
    "before the last checkpoints": Step(f"{_RUNTIME}.give_up", "before", 1, "term"),
    "between the last checkpoints": Step(f"{_STAGE}:Stage.read_rest", "before", 1, "term"),
    "rest read": Step(f"{_STAGE}:Stage.read_rest", "after", 1, "term"),
    "before the last rows": Step("streamlens.outbox:Outbox.drain", "before", 1, "term"),
    "stores closed": Step(f"{_STAGE}:Stage.close", "after", 2, "term"),
}


def spell(name: str, number: signal.Signals, nth: int) -> str:
    """What `VARIABLE` must be."""
    return f"{name}:{int(number)}:{nth}"


def arm(spelled: str) -> None:
    """In the worker: have the step strike at its n-th pass. Steps of the end count once the worker reads."""
    name, number, nth = spelled.split(":")
    step = STEPS[name]
    counting = step.by in ("start", "wiped")
    left = int(nth)

    def begin() -> None:
        nonlocal counting
        counting = True

    def passing() -> None:
        nonlocal left
        left -= counting
        if counting and left == 0:
            sys.stderr.flush()
            os.kill(os.getpid(), int(number))

    if not counting:
        _wrap(Step(STEPS["about to read"].target, "before"), begin)
    _wrap(step, passing)


def found(step: Step) -> tuple[Any, str]:
    """What has the target, and under which name. Raises `AttributeError` or `ImportError` when nothing does."""
    module, _, path = step.target.partition(":")
    *owners, attribute = path.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module))
    getattr(owner, attribute)
    return owner, attribute


def _wrap(step: Step, passing: Callable[[], None]) -> None:
    owner, attribute = found(step)
    setattr(owner, attribute, _wrapped(getattr(owner, attribute), step, passing))


def _wrapped(call: Callable[..., Any], step: Step, passing: Callable[[], None]) -> Callable[..., Any]:
    before = step.moment == "before"

    @wraps(call)
    def plain(*arguments: Any, **options: Any) -> Any:
        if before:
            passing()
        result = call(*arguments, **options)
        if not before and step.counts(result):
            passing()
        return result

    @wraps(call)
    async def awaited(*arguments: Any, **options: Any) -> Any:
        if before:
            passing()
        result = await call(*arguments, **options)
        if not before and step.counts(result):
            passing()
        return result

    return awaited if inspect.iscoroutinefunction(call) else plain
