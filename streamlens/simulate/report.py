"""What a run has sent and how it was answered: counted by the sender, shown while it runs and as a table at the end."""

import time
from collections.abc import Callable

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

SHOWN_FAULTS = 5
LINE_EVERY_S = 5.0


class Report(msgspec.Struct):
    """Counts of one run, in events where nothing else is said."""

    expected_events: int = 0
    """How many there will be; an estimate for synthetic traffic."""
    calls: int = 0
    """Calls whose request was answered as accepted or rejected."""
    bodies: int = 0
    """Answered HTTP requests with accepted or rejected events, without the repeated ones."""
    accepted: int = 0
    rejected: int = 0
    retried: int = 0
    """Events sent again because their body was not answered, or the server asked to come back later."""
    given_up: int = 0
    """Events without an answer at the end: the server may have them or not."""
    seconds: float = 0.0
    faults: list[str] = []
    """Why events were rejected: the first five."""

    @property
    def events(self) -> int:
        return self.accepted + self.rejected

    @property
    def ok(self) -> bool:
        """Every event that was sent was accepted."""
        return not (self.rejected or self.given_up)


class Display:
    """Shows a report while it grows: a progress bar on a terminal, else a line every 5 s.

    A context manager; call it with the report as often as wanted.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._next_line = clock() + LINE_EVERY_S
        self._bar = Progress(
            TextColumn("sending"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("events"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("sending", total=None, note="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, report: Report) -> None:
        note = f"{report.retried} retried" if report.retried else ""
        self._bar.update(self._task, completed=report.events, total=report.expected_events, note=note)
        if not self._console.is_terminal and self._clock() >= self._next_line:
            self._next_line = self._clock() + LINE_EVERY_S
            self._console.print(f"sent {report.events} of {report.expected_events} events {note}".rstrip())


def table(report: Report) -> Table:
    """The closing table."""
    sheet = Table(title="sent and answered", show_header=False)
    sheet.add_column("what")
    sheet.add_column("count", justify="right")
    rate = report.events / report.seconds if report.seconds else 0.0
    for what, count in (
        ("calls", f"{report.calls:,}"),
        ("events", f"{report.events:,}"),
        ("bodies", f"{report.bodies:,}"),
        ("accepted", f"{report.accepted:,}"),
        ("rejected", f"{report.rejected:,}"),
        ("retried", f"{report.retried:,}"),
        ("without an answer", f"{report.given_up:,}"),
        ("seconds", f"{report.seconds:.1f}"),
        ("events/s", f"{rate:,.0f}"),
    ):
        sheet.add_row(what, count)
    return sheet
