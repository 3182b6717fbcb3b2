"""One run of the simulator from its options to its report, and the endless one behind `streamlens up --demo`."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from streamlens.errors import BadSetting
from streamlens.pricing import Prices
from streamlens.simulate import synthetic, trace
from streamlens.simulate.call import Line, timeline
from streamlens.simulate.oracle import Oracle
from streamlens.simulate.report import Report
from streamlens.simulate.sender import ANSWER_WITHIN_S, Sender
from streamlens.simulate.synthetic import Traffic

DEMO = Traffic(rate=20.0, duration_s=None, tenants=4, users=3000, anomalies=0.1)


HISTORY_S = 57 * 60.0
"""What a demo on an empty server begins with, so that there is something to see; within the allowed lateness."""


class SimulateOptions(msgspec.Struct, frozen=True):
    """Where to send what. With `trace` the traffic is that file's, else `traffic`."""

    url: str = "http://127.0.0.1:8080"
    traffic: Traffic = Traffic()
    trace: Path | None = None
    speed: float = 1.0
    """The trace is sent this many times as fast as it was recorded."""
    seed: int = 1
    """Of what a trace does not hold."""
    oracle: Path | None = None
    """Where to write the rows that the server must show (`Oracle.write`)."""
    give_up_s: float = 600.0
    """How long to repeat a body while the server is away."""
    api_key: str = ""


async def simulate(
    options: SimulateOptions,
    *,
    stop: asyncio.Event | None = None,
    progress: Callable[[Report], None] = lambda report: None,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Report:
    """Send the traffic and report what was answered; `stop` ends it early. Raises `BadSetting` before sending."""
    _check_url(options.url)
    lines, expected, speed = _lines(options, int(now() * 1e6))
    oracle = Oracle(Prices()) if options.oracle else None
    sender = Sender(
        options.url,
        stop=stop or asyncio.Event(),
        acknowledged=oracle.acknowledged if oracle else lambda lines: None,
        progress=progress,
        give_up_s=options.give_up_s,
        api_key=options.api_key,
        now=now,
        sleep=sleep,
    )
    sender.report.expected_events = expected
    report = await sender.run(lines, speed=speed)
    if oracle and options.oracle:
        ledger = oracle.ledger(retried=report.retried, rejected=report.rejected, unknown=report.given_up)
        oracle.write(options.oracle, ledger)
    return report


async def run_demo(url: str, stop: asyncio.Event) -> None:
    """Lively traffic, about 20 calls a second, until `stop` is set; waits for the server as long as it takes.

    A server without any calls gets those of the last `HISTORY_S` first, at once.
    """
    _check_url(url)
    if await _is_empty(url):
        past = msgspec.structs.replace(DEMO, duration_s=HISTORY_S)
        lines = timeline(synthetic.calls(past, int((time.time() - HISTORY_S) * 1e6)))
        await Sender(url, stop=stop, give_up_s=math.inf).run(lines, speed=math.inf)
    await Sender(url, stop=stop, give_up_s=math.inf).run(timeline(synthetic.calls(DEMO, int(time.time() * 1e6))))


async def _is_empty(url: str) -> bool:
    """Whether the server has counted nothing yet. One that does not answer is taken to have."""
    try:
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(ANSWER_WITHIN_S)) as session:
            return bool(await (await session.get("/v1/tenants")).json() == {"tenants": []})
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False


def _lines(options: SimulateOptions, now_us: int) -> tuple[Iterator[Line], int, float]:
    """(the events, about how many, the speed to send them at)."""
    if options.trace:
        calls = trace.calls(trace.read(options.trace), now_us, speed=options.speed, seed=options.seed)
        return timeline(calls), 2 * len(calls), options.speed
    traffic = options.traffic
    expected = 0 if traffic.duration_s is None else round(2 * traffic.rate * traffic.duration_s)
    return timeline(synthetic.calls(traffic, now_us)), expected, 1.0


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSetting(f"--url {url}: expected http://HOST:PORT")
