"""`simulate` from options to report and oracle, and the command around it."""

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from simulate_server import EventServer
from streamlens.cli.simulate import simulate as command
from streamlens.errors import BadSetting
from streamlens.pricing import Prices
from streamlens.simulate.oracle import Oracle, compare, read
from streamlens.simulate.report import Display, Report, table
from streamlens.simulate.run import HISTORY_S, SimulateOptions, run_demo, simulate


def trace_file(path: Path, calls: int) -> Path:
    """A trace of `calls` calls, one every 0.5 s."""
    rows = [
        f"2023-11-16 18:{n // 120:02}:{n // 2 % 60:02}.{n % 2 * 5:07},{n * 7 % 991},{n * 3 % 211}" for n in range(calls)
    ]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    return path


async def test_the_oracle_of_a_trace_has_the_tokens_of_the_file_whatever_the_server_does(tmp_path: Path) -> None:
    file, oracle = trace_file(tmp_path / "trace.csv", 400), tmp_path / "oracle.json"
    async with EventServer(503, "store and close", "close", (503, "0")).running() as server:
        report = await simulate(SimulateOptions(url=server.url, trace=file, speed=2_000, oracle=oracle))
    rows, ledger = read(oracle)
    cells = [line.split(",") for line in file.read_text().splitlines()[1:]]
    assert sum(row["prompt_tokens"] for row in rows) == sum(int(prompt) for _, prompt, _ in cells)
    assert sum(row["completion_tokens"] for row in rows) == sum(int(completion) for *_, completion in cells)
    assert sum(row["calls"] for row in rows) == report.calls == 400
    assert (report.accepted, report.ok, ledger["aggregated"]) == (800, True, 800)
    assert report.retried == ledger["retried"] > server.duplicates > 0
    stored = Oracle(Prices())
    stored.acknowledged(json.dumps(event).encode() for event in server.stored.values())
    assert compare(rows, stored.rows()) == []


async def test_rejected_events_are_not_in_the_oracle(tmp_path: Path) -> None:
    file, oracle = trace_file(tmp_path / "trace.csv", 200), tmp_path / "oracle.json"
    async with EventServer(refuse=lambda event: event.get("route") == "chat").running() as server:
        report = await simulate(SimulateOptions(url=server.url, trace=file, speed=2_000, oracle=oracle))
    rows, ledger = read(oracle)
    assert {row["route"] for row in rows} == {"search", "summarize", "agent/plan", "extract"}
    assert report.rejected == ledger["rejected"] == ledger["unpaired"] > 0
    assert not report.ok


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", ""])
async def test_a_url_that_can_not_be_is_refused_at_once(url: str) -> None:
    with pytest.raises(BadSetting, match="--url"):
        await simulate(SimulateOptions(url=url))


async def test_the_demo_sends_until_it_is_stopped() -> None:
    stop = asyncio.Event()
    async with EventServer("close", 503).running() as server:
        demo = asyncio.create_task(run_demo(server.url, stop))
        await asyncio.wait_for(server.asked.wait(), 5)
        stop.set()
        await asyncio.wait_for(demo, 5)
    assert server.bodies


@pytest.mark.parametrize(("tenants", "ago_s"), [(["acme"], 0), ([], HISTORY_S)], ids=["has calls", "is empty"])
async def test_a_demo_on_an_empty_server_begins_with_what_was_before(tenants: list[str], ago_s: float) -> None:
    stop = asyncio.Event()
    began = datetime.now(UTC)
    async with EventServer().running() as server:
        server.tenants = tenants
        demo = asyncio.create_task(run_demo(server.url, stop))
        await asyncio.wait_for(server.asked.wait(), 5)
        stop.set()
        await asyncio.wait_for(demo, 5)
    first = min(datetime.fromisoformat(body[0]["timestamp"]) for body in server.bodies)
    assert abs((began - first).total_seconds() - ago_s) < 5


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    return [sys.executable, "-c", "from streamlens.cli.simulate import simulate; simulate()"]


async def _finish(process: asyncio.subprocess.Process) -> tuple[str, int | None]:
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    return output.decode(), process.returncode


@pytest.mark.parametrize(
    ("plan", "code", "told"),
    [
        pytest.param([], 0, "accepted", id="all accepted: 0"),
        pytest.param([400], 1, "rejected: HTTP 400", id="something rejected: 1, with the reason"),
    ],
)
async def test_the_command_prints_the_table_and_tells_by_its_exit_code(
    script: list[str], tmp_path: Path, plan: list[int | tuple[int, str] | str], code: int, told: str
) -> None:
    file = trace_file(tmp_path / "trace.csv", 20)
    async with EventServer(*plan).running() as server:
        arguments = ["--url", server.url, "--trace", str(file), "--speed", "1000"]
        process = await asyncio.create_subprocess_exec(*script, *arguments, stdout=asyncio.subprocess.PIPE)
        output, returned = await _finish(process)
    assert returned == code
    assert told in output
    assert "events/s" in output


async def test_ctrl_c_prints_the_table_of_what_was_sent(script: list[str]) -> None:
    async with EventServer().running() as server:
        arguments = ["--url", server.url, "--duration", "3600", "--rate", "50"]
        process = await asyncio.create_subprocess_exec(*script, *arguments, stdout=asyncio.subprocess.PIPE)
        await asyncio.wait_for(server.asked.wait(), 20)
        os.kill(process.pid, signal.SIGINT)
        output, returned = await _finish(process)
    assert returned == 0
    accepted = next(line for line in output.splitlines() if "accepted" in line).split()[-2]
    assert int(accepted.replace(",", "")) == len(server.stored) > 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--help"], 0, "streamlens simulate --trace"),
        (["--trace", "nowhere.csv"], 2, "nowhere.csv"),
        (["--speed", "0"], 2, "--speed"),
        (["--anomalies", "2"], 2, "--anomalies"),
        (["--url", "nowhere"], 1, "--url nowhere"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, told: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, told in result.output) == (code, True)


def test_without_a_terminal_a_line_is_printed_every_five_seconds() -> None:
    time = [0.0]
    console = Console(force_terminal=False, width=100)
    with console.capture() as printed, Display(console, clock=lambda: time[0]) as display:
        for second in range(12):
            time[0] = float(second)
            display(Report(expected_events=100, accepted=second, retried=second // 10))
    assert printed.get().split("\n") == ["sent 5 of 100 events", "sent 10 of 100 events 1 retried", ""]


def test_the_table_has_thousands_and_the_rate() -> None:
    console = Console(width=60)
    with console.capture() as printed:
        console.print(table(Report(calls=1_000, accepted=1_999, rejected=1, seconds=0.5)))
    cells = dict(line.strip("│ ").split("│") for line in printed.get().splitlines() if line.startswith("│"))
    told = {what.strip(): count.strip() for what, count in cells.items()}
    assert (told["calls"], told["events"], told["rejected"], told["events/s"]) == ("1,000", "2,000", "1", "4,000")
