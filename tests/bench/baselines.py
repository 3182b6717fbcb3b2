"""The baselines of `pipeline`, each a program of its own that reads the same topics."""

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path

import msgspec

from bench.ground import Ground

TESTS = Path(__file__).resolve().parent.parent
PEERS = TESTS.parent / ".bench" / "bin"
"""Programs of the environment that `make bench` makes of `peers.txt`."""
_GIVE_UP_S = 200.0
_numbers = itertools.count(1)


class Baseline(msgspec.Struct, frozen=True):
    """`share`: the part of the backlog that it reads. The slow ones read less, because the rate is what counts."""

    name: str
    module: str
    share: float
    python: Path = Path(sys.executable)


BASELINES = (
    Baseline("faust", "bench.baseline_faust", 0.01),
    Baseline("quix", "bench.baseline_quix", 0.2, PEERS / "python"),
    Baseline("aiokafka", "bench.baseline_aiokafka", 1),
    Baseline("confluent", "bench.baseline_confluent", 1),
)


async def measure(baseline: Baseline, ground: Ground, events: int) -> dict[str, float] | None:
    """Its figures for its share of `events`; None, with a word, when its framework is not installed."""
    if not baseline.python.exists():
        print(f"no {baseline.name}: it is not installed (make bench installs it)", flush=True)
        return None
    number = next(_numbers)
    directory = ground.directory / f"baseline-{number}"
    directory.mkdir()
    arguments = [ground.brokers, f"{baseline.name}-{number}", str(int(events * baseline.share)), str(directory)]
    process = await asyncio.create_subprocess_exec(
        baseline.python,
        "-m",
        baseline.module,
        *arguments,
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_GIVE_UP_S):
            said, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = [line for line in said.decode().splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        raise RuntimeError(f"{baseline.name} ended with {process.returncode}:\n{complained.decode()[-2000:]}")
    figures: dict[str, float] = json.loads(lines[-1])
    assert figures.pop("calls joined", 1), f"{baseline.name} joined nothing"
    return figures
