"""What was measured: values of each run, their median and spread, and the ratios to the baselines of the same run."""

import json
import os
import platform
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_PACKAGES = ("streamlens", "faust-streaming", "aiokafka", "confluent-kafka", "rocksdict", "msgspec", "uvloop")


class Figure(msgspec.Struct):
    """One measure of one case: a value a run. `ratios`: this median over that of each baseline."""

    case: str
    measure: str
    values: list[float]
    ratios: dict[str, float] = {}

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Report:
    """The figures of one invocation, part by part, in the order in which they were measured."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self.parts: dict[str, list[Figure]] = {}
        self._options = options
        self._began = datetime.now(UTC)

    def add(self, part: str, case: str, measures: Mapping[str, float]) -> None:
        """One run's measures. A line of progress is printed."""
        figures = self.parts.setdefault(part, [])
        for measure, value in measures.items():
            for figure in figures:
                if (figure.case, figure.measure) == (case, measure):
                    figure.values.append(value)
                    break
            else:
                figures.append(Figure(case, measure, [value]))
        print(f"{part}: {case}: " + ", ".join(f"{name} {_text(value)}" for name, value in measures.items()), flush=True)

    def compare(self, part: str, case: str, baselines: list[str], measures: list[str]) -> None:
        """Give the figures of `case` their ratios to the same measures of `baselines`, where there are any."""
        found = {(figure.case, figure.measure): figure for figure in self.parts.get(part, [])}
        for measure in measures:
            for baseline in baselines:
                if (case, measure) in found and (baseline, measure) in found:
                    ratio = found[case, measure].median / found[baseline, measure].median
                    found[case, measure].ratios[baseline] = ratio

    def show(self) -> None:
        """Print everything as one table."""
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in ("part", "case", "measure"):
            table.add_column(name, no_wrap=True)
        for name in ("median", "lowest", "highest", "runs"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("against")
        for part, figures in self.parts.items():
            before = ""
            for figure in figures:
                table.add_row(
                    part if not before else "",
                    figure.case if figure.case != before else "",
                    figure.measure,
                    *(_text(value) for value in (figure.median, min(figure.values), max(figure.values))),
                    str(len(figure.values)),
                    ", ".join(f"{ratio:.3g} x {name}" for name, ratio in figure.ratios.items()),
                )
                before = figure.case
            table.add_section()
        Console(width=None if Console().is_terminal else 160).print(table)
        print(", ".join(f"{name} {value}" for name, value in _machine().items()))

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        content = {
            "began": self._began.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self._began).total_seconds()),
            "options": {name: str(value) for name, value in self._options.items()},
            "machine": _machine(),
            "versions": _versions(),
            "parts": {
                part: [
                    {"case": f.case, "measure": f.measure, "median": f.median, "values": f.values, "ratios": f.ratios}
                    for f in figures
                ]
                for part, figures in self.parts.items()
            },
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


def _machine() -> dict[str, object]:
    models = [line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.processor(),
        "memory_gib": round(int(memory) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"
