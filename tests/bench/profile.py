"""Where a worker's CPU time goes: samples of py-spy, each given to a part of StreamLens by the file it was in."""

import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

from bench.baselines import PEERS
from bench.worker import Worker

PARTS = (
    ("decode", ("streamlens/events.py",)),
    ("join", ("agents/join.py", "streamlens/join.py", "streamlens/pricing.py", "tables/pending.py")),
    ("windows", ("streamlens/cell.py", "streamlens/histogram.py", "agents/windows.py", "tables/", "streamlens/water")),
    ("publish", ("streamlens/outbox.py", "streamlens/published.py", "streamlens/postgres/", "asyncpg/",
                 "streamlens/kafka/producer.py", "streamlens/kafka/batches.py", "aiokafka/producer/")),
    ("store", ("streamlens/checkpoint/store.py",)),
    ("checkpoint", ("streamlens/checkpoint/",)),
    ("fetch", ("streamlens/kafka/", "streamlens/transports/", "streamlens/locallog/", "aiokafka/", "kafka/codec")),
    ("faust", ("faust/", "mode/")),
    ("web", ("web/", "aiohttp/")),
)  # fmt: skip
"""The innermost frame that is in one of these files decides."""
_HERTZ = 200


class Profiler:
    """py-spy on one process; `start` when it is to begin."""

    def __init__(self, worker: Worker, folded: Path) -> None:
        """`folded` is where the stacks go."""
        self._worker = worker
        self._folded = folded
        self._spy: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to sample. Without py-spy it says so, and `shares` is empty."""
        if (program := _py_spy()) is None:
            print("no profile: py-spy is not there (make bench installs it)", flush=True)
            return
        command = [program, "record", "--format", "raw", "--rate", str(_HERTZ), "--full-filenames"]
        self._spy = subprocess.Popen(
            [*command, "--pid", str(self._worker.process.pid), "--output", self._folded],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def shares(self) -> dict[str, float]:
        """Stop, and say how many percent of the samples each part has."""
        if self._spy is None:
            return {}
        self._spy.send_signal(signal.SIGINT)
        self._spy.wait(60)
        return shares(self._folded.read_text().splitlines())


def shares(folded: list[str]) -> dict[str, float]:
    """Percent by part of lines `outermost;…;innermost count`."""
    counts: Counter[str] = Counter()
    for line in folded:
        stack, _, count = line.rpartition(" ")
        counts[_part(stack.split(";"))] += int(count)
    total = counts.total() or 1
    return {part: 100 * count / total for part, count in counts.most_common()}


def _part(stack: list[str]) -> str:
    for frame in reversed(stack):
        for part, places in PARTS:
            if any(f"/{place}" in frame or f"({place}" in frame for place in places):
                return part
    return "other"


def _py_spy() -> str | None:
    return str(PEERS / "py-spy") if (PEERS / "py-spy").exists() else shutil.which("py-spy")
