"""The sender gets every event to a server that fails, and counts what became of each."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from simulate_server import EventServer
from streamlens.simulate.call import Line
from streamlens.simulate.sender import MAX_EVENTS, Sender, _bodies


class Clock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.time += seconds
        await asyncio.sleep(0)


@pytest.fixture
async def stop() -> AsyncIterator[asyncio.Event]:
    yield asyncio.Event()


def line(number: int, at_ms: int = 0, *, begins: bool = True) -> Line:
    kind = "request" if begins else "response"
    return Line(at_ms * 1000, begins, f'{{"type": "{kind}", "request_id": "r{number}"}}'.encode())


PAIR = [line(1), line(1, 10, begins=False)]


async def test_events_are_sent_at_their_time_divided_by_the_speed(stop: asyncio.Event) -> None:
    clock = Clock()
    lines = [line(1), line(2, 1_000), line(2, 1_060, begins=False), line(3, 5_000)]
    async with EventServer().running() as server:
        report = await Sender(server.url, stop=stop, now=clock.now, sleep=clock.sleep).run(lines, speed=2)
    assert [[event["request_id"] for event in body] for body in server.bodies] == [["r1"], ["r2", "r2"], ["r3"]]
    assert clock.slept == [0.53, 1.97]
    assert (report.calls, report.events, report.bodies, report.accepted, report.seconds) == (3, 4, 3, 4, 2.5)


@pytest.mark.parametrize(
    ("at_ms", "sizes"),
    [
        pytest.param([0, 10, 50], [3], id="within 50 ms of the first: one body"),
        pytest.param([0, 10, 51], [2, 1], id="later: the next body"),
        pytest.param([0, 40, 80, 120], [2, 2], id="counted from the first of the body, not the last"),
        pytest.param([0] * (MAX_EVENTS + 1), [MAX_EVENTS, 1], id="a body has a largest size"),
        pytest.param([], [], id="nothing to send"),
    ],
)
def test_events_share_a_body(at_ms: list[int], sizes: list[int]) -> None:
    bodies = list(_bodies([line(number, at) for number, at in enumerate(at_ms)], began=0.0, speed=1))
    assert [len(body) for _, body in bodies] == sizes


@pytest.mark.parametrize(
    ("plan", "slept", "duplicates"),
    [
        pytest.param([503, 503, 503], [0.1, 0.2, 0.4], 0, id="5xx: back-off doubles"),
        pytest.param([500] * 8, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0], 0, id="and has an upper bound"),
        pytest.param([(503, "3")], [3.0], 0, id="Retry-After is honoured"),
        pytest.param([(429, "2"), 503], [2.0, 0.2], 0, id="rate limit"),
        pytest.param([(503, "Wed, 21 Oct 2026 07:28:00 GMT")], [0.1], 0, id="a date as Retry-After: the back-off"),
        pytest.param(["close", "close"], [0.1, 0.2], 0, id="connection dropped"),
        pytest.param(["store and close"], [0.1], 2, id="stored, but the answer is lost: sent again"),
    ],
)
async def test_a_body_without_an_answer_is_repeated_as_it_was(
    stop: asyncio.Event, plan: list[int | tuple[int, str] | str], slept: list[float], duplicates: int
) -> None:
    clock, acknowledged = Clock(), list[bytes]()
    async with EventServer(*plan).running() as server:
        sender = Sender(server.url, stop=stop, acknowledged=acknowledged.extend, now=clock.now, sleep=clock.sleep)
        report = await sender.run(PAIR)
    assert clock.slept[1:] == slept  # the first one waits for the second event's time
    assert server.bodies == [server.bodies[0]] * (len(plan) + 1)
    assert (len(server.stored), server.duplicates) == (2, duplicates)
    assert acknowledged == [one.raw for one in PAIR]
    assert (report.accepted, report.bodies, report.retried, report.given_up) == (2, 1, 2 * len(plan), 0)
    assert report.ok


async def test_a_server_that_is_not_there_yet_is_waited_for(stop: asyncio.Event) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    clock, server, opened = Clock(), EventServer(), list[object]()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if len(clock.slept) == 4:
            running = server.running(port)
            opened.append(running)
            await running.__aenter__()

    report = await Sender(f"http://127.0.0.1:{port}/", stop=stop, now=clock.now, sleep=sleep).run(PAIR)
    assert (len(server.stored), report.retried) == (2, 6)


async def test_after_the_limit_it_gives_up_and_says_what_had_no_answer(stop: asyncio.Event) -> None:
    clock, lines = Clock(), [line(number, number * 1_000) for number in range(100_000)]
    async with EventServer(*[503] * 10_000).running() as server:
        report = await Sender(server.url, stop=stop, give_up_s=60, now=clock.now, sleep=clock.sleep).run(lines)
    assert (report.events, report.ok) == (0, False)
    assert 1 <= report.given_up <= 8


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 415])
async def test_a_refused_body_is_not_repeated(stop: asyncio.Event, status: int) -> None:
    acknowledged = list[bytes]()
    async with EventServer(status).running() as server:
        report = await Sender(server.url, stop=stop, acknowledged=acknowledged.extend).run(PAIR)
    assert (len(server.bodies), acknowledged) == (1, [])
    assert (report.accepted, report.rejected, report.retried, report.ok) == (0, 2, 0, False)
    assert report.faults[0].startswith(f"HTTP {status}: ")


async def test_rejected_events_are_counted_and_the_first_five_told(stop: asyncio.Event) -> None:
    acknowledged = list[bytes]()
    lines = [line(number) for number in range(20)]
    async with EventServer(refuse=lambda event: event["request_id"] != "r7").running() as server:
        report = await Sender(server.url, stop=stop, acknowledged=acknowledged.extend).run(lines)
    assert (report.accepted, report.rejected, len(report.faults)) == (1, 19, 5)
    assert report.faults[0] == 'route: refused in {"type": "request", "request_id": "r0"}'
    assert acknowledged == [lines[7].raw]


async def test_stop_ends_a_run_that_waits_for_its_next_event(stop: asyncio.Event) -> None:
    lines = [line(1), line(2, 3_600_000)]
    async with EventServer().running() as server:
        sender = Sender(server.url, stop=stop, acknowledged=lambda answered: stop.set())
        report = await asyncio.wait_for(sender.run(lines), 5)
    assert (report.accepted, report.given_up, report.ok) == (1, 0, True)


async def test_stop_ends_a_run_whose_server_is_away(stop: asyncio.Event) -> None:
    async with EventServer(*[(503, "3600")] * 10).running() as server:
        sending = asyncio.create_task(Sender(server.url, stop=stop, give_up_s=1e9).run(PAIR))
        await asyncio.wait_for(server.asked.wait(), 5)
        stop.set()
        report = await asyncio.wait_for(sending, 5)
    assert (report.accepted, report.given_up, report.ok) == (0, 2, False)
