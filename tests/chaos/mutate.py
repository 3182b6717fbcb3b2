"""The suite against the engine with one safeguard less, and against stock Faust: each must be caught.

    make chaos-mutants                    # all
    make chaos-mutants MUTANT="no fence"  # one; also the name of an aim, or a Faust guarantee

Seeds 1, 2, 3 until it is caught. The engine as it is comes first, by the same faults and seeds, and must be exact. Exit
code 1 when one survives, or when a control is not exact.
"""

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from chaos.mutants import MUTANTS, UNCHANGED
from chaos.mutants_aims import AIMS, STOCK, Aim
from chaos.run import Run
from chaos.stock import GUARANTEES
from chaos.stock_run import StockRun
from streamlens import logs

SEEDS = (1, 2, 3)
RATE = 300.0
STOCK_RATE = 200.0
_LIMIT_S = 300.0
_SHOWN = 110
_TIME = re.compile(r"datetime\.datetime\((?:\d+, ){3}(\d+), (\d+), tzinfo=datetime\.timezone\.utc\)")


class Trial(NamedTuple):
    """A mutant, or a control, under an aim. `is_exact`: what is expected of it."""

    name: str
    removed: str
    aim: Aim
    is_exact: bool

    @property
    def spelled(self) -> str:
        """As the workers and the process of a run are told."""
        return f"{self.aim.name}/{self.name}"


def trials(only: str) -> list[Trial]:
    """All that is to be tried, controls before mutants; `only`: the name of a mutant, an aim or a guarantee."""
    chosen = [
        Trial(each.name, each.removed, each.aim, False)
        for each in MUTANTS.values()
        if only in ("", each.name, each.aim.name)
    ]
    controls = {trial.aim.name: Trial(UNCHANGED, "nothing", trial.aim, True) for trial in chosen}
    stock = [
        Trial(guarantee, f"all: stock Faust, {guarantee}", aim, is_exact)
        for aim, guarantee, is_exact in STOCK
        if only in ("", guarantee, aim.name)
    ]
    return [*controls.values(), *chosen, *stock]


def judge(trial: Trial) -> tuple[bool, str]:
    """Whether it went as it must, and the row that says so."""
    began, seed, wrong = time.monotonic(), 0, list[str]()
    for seed in SEEDS[:1] if trial.is_exact else SEEDS:
        if wrong := outcome(trial, seed):
            break
    said = shortened(wrong[0]) if wrong else "exact" if trial.is_exact else "SURVIVED"
    cells = (trial.name, trial.removed, trial.aim.name, said, str(seed), f"{time.monotonic() - began:.0f}")
    return bool(wrong) is not trial.is_exact, f"| {' | '.join(cells)} |"


def outcome(trial: Trial, seed: int) -> list[str]:
    """What a run finds wrong, in a process of its own: an aim changes the suite."""
    command = [sys.executable, "-m", "chaos.mutate", "--trial", trial.spelled, "--seed", str(seed)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=_LIMIT_S
    )
    *said, last = done.stdout.splitlines()
    print("\n".join(said), file=sys.stderr, flush=True)
    wrong: list[str] = json.loads(last)
    return wrong


def shortened(sentence: str) -> str:
    """The beginning of a difference, fit for a table."""
    sentence = _TIME.sub(r"\1:\2", sentence.replace("|", "/"))
    return sentence if len(sentence) <= _SHOWN else f"{sentence[:_SHOWN]}…"


def attempt(spelled: str, seed: int) -> list[str]:
    """One run in this process."""
    name, _, mutant = spelled.partition("/")
    aim = AIMS[name]
    aim.set()
    environ = {"CHAOS_MUTANT": spelled, **dict(aim.environ)}
    minutes = aim.seconds / 60
    if mutant in GUARANTEES:
        stock = StockRun(seed, minutes, aim.workers, STOCK_RATE, aim.kinds, environ=environ)
        return asyncio.run(stock.wrong())
    run = Run(seed, minutes, aim.workers, RATE, aim.kinds, environ=environ, early=True)
    try:
        result = asyncio.run(run.result())
        print(*(f"{count} {said}" for said, count in result.said.items()), sep=", ")
        return result.wrong
    finally:
        shutil.rmtree(run._directory, ignore_errors=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--only", default="", help="a mutant, an aim or a guarantee of Faust")
    arguments.add_argument("--trial", help="one run, aim/mutant: prints what is wrong as JSON")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    if given.trial:
        logs.configure("text", level=40)
        print(json.dumps(attempt(given.trial, given.seed)))
        return
    chosen = trials(given.only)
    if not chosen:
        sys.exit(f"no such mutant: {given.only}; there are {', '.join((*MUTANTS, *GUARANTEES, *AIMS))}")
    print("| Engine | Taken out | Faults | Caught by | Seed | Seconds |\n|---|---|---|---|---|---|", flush=True)
    good = True
    for trial in chosen:
        as_it_must, row = judge(trial)
        print(row, flush=True)
        good = good and as_it_must
    sys.exit(not good)


if __name__ == "__main__":
    main()
