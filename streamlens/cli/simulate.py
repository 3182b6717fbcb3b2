"""`streamlens simulate`: traffic over HTTP, synthetic or from a trace file."""

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from streamlens.simulate.report import Report
    from streamlens.simulate.run import SimulateOptions

EXAMPLE = """
\b
Examples:
  streamlens simulate --rate 50 --duration 60 --tenants 3
  streamlens simulate --trace conversation.csv --speed 60 --oracle expected.json
"""


@click.command(name="simulate", epilog=EXAMPLE)
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where StreamLens serves.")
@click.option(
    "--rate", type=click.FloatRange(0, 1e6, min_open=True), default=10.0, show_default=True, help="Calls per second."
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds of requests; the last answers come up to 30 s later.",
)
@click.option("--tenants", type=click.IntRange(1), default=3, show_default=True, help="How many tenants call.")
@click.option("--users", type=click.IntRange(1), default=100, show_default=True, help="How many users call.")
@click.option("--services", is_flag=True, help="Reserved: service events are not sent yet.")
@click.option(
    "--anomalies",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the 30 s stretches in which a tenant is slow, fails or sends long prompts.",
)
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send the calls of a CSV file (TIMESTAMP, ContextTokens, GeneratedTokens) instead.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Send the trace this many times as fast: above 1 it ends now, else it starts now.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same traffic.")
@click.option(
    "--oracle", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write the exact rows expected."
)
def simulate(
    url: str,
    rate: float,
    duration: float,
    tenants: int,
    users: int,
    services: bool,
    anomalies: float,
    trace: Path | None,
    speed: float,
    seed: int,
    oracle: Path | None,
) -> None:
    """Send traffic to StreamLens and show what was answered.

    While the server is away the events are repeated, for up to 10 minutes. Ctrl-C ends the run; the table then shows
    what was sent. Exit code 1 when an event was rejected or had no answer.
    """
    # Imported here, because the price catalogue alone takes half a second.
    from rich.console import Console

    from streamlens.errors import BadSetting
    from streamlens.settings import Settings
    from streamlens.simulate.report import table
    from streamlens.simulate.run import SimulateOptions
    from streamlens.simulate.synthetic import Traffic

    if services:
        click.echo("--services: service events are not sent yet", err=True)
    console = Console()
    traffic = Traffic(rate=rate, duration_s=duration, tenants=tenants, users=users, anomalies=anomalies, seed=seed)
    try:
        key = Settings.load(os.environ).api_key
        options = SimulateOptions(url, traffic, trace, speed, seed, oracle, api_key=key)
        report = asyncio.run(_until_done(options, console))
    except BadSetting as error:
        raise click.ClickException(str(error)) from None
    for fault in report.faults:
        console.print(f"rejected: {fault}", markup=False, highlight=False)
    console.print(table(report))
    if not report.ok:
        raise SystemExit(1)


async def _until_done(options: "SimulateOptions", console: "Console") -> "Report":
    """Run with a display; the first Ctrl-C or SIGTERM ends it in good order, a second Ctrl-C at once."""
    from streamlens.simulate.report import Display
    from streamlens.simulate.run import simulate as send

    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    with Display(console) as display:
        return await send(options, stop=stop, progress=display)
