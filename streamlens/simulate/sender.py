"""Posts events in time order to /v1/llm/events, and repeats what was not answered until it is.

A repeated body holds the same events with the same ids, so the server recognises what it already has.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator

import aiohttp
import msgspec
import structlog

from streamlens.simulate.call import Line
from streamlens.simulate.report import SHOWN_FAULTS, Report

PATH = "/v1/llm/events"
TOGETHER_S = 0.05
"""Events that are due within this time share a body."""
MAX_EVENTS = 1000
"""In one body."""
IN_FLIGHT = 8
"""Bodies without an answer at the same time; with more than this the traffic falls behind its schedule."""
ANSWER_WITHIN_S = 15.0
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0

_RETRIED = frozenset((408, 425, 429))

log = structlog.get_logger()


class _GaveUp(Exception):
    """A body had no answer for too long."""


class _Fault(msgspec.Struct):
    index: int
    field: str = ""
    detail: str = ""


class _Answer(msgspec.Struct):
    accepted: int
    rejected: int = 0
    errors: list[_Fault] = []


class Sender:
    """Sends one run. Whatever happens to a body is counted in `report`."""

    def __init__(
        self,
        url: str,
        *,
        stop: asyncio.Event,
        acknowledged: Callable[[list[bytes]], None] = lambda lines: None,
        progress: Callable[[Report], None] = lambda report: None,
        give_up_s: float = 600.0,
        api_key: str = "",
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`acknowledged` is called with the lines of each body that the server accepted; `give_up_s` is how long a
        body is repeated without an answer before the run ends. `now` and `sleep` are the clock, in seconds."""
        self.report = Report()
        self._url = url.rstrip("/") + PATH
        self._stop = stop
        self._acknowledged = acknowledged
        self._progress = progress
        self._give_up_s = give_up_s
        self._headers = {"Content-Type": "application/x-ndjson", "User-Agent": "streamlens-simulate"}
        if api_key:
            self._headers["X-API-Key"] = api_key
        self._now = now
        self._sleep = sleep
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._away = False
        self._posted = 0

    async def run(self, lines: Iterable[Line], *, speed: float = 1.0) -> Report:
        """Send `lines`, the first one now and the others at their distance from it divided by `speed`.

        Ends when all are answered, when `stop` is set (bodies on their way may still be answered), or on giving up.
        """
        began = self._now()
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as bodies:
                for due, body in _bodies(lines, began, speed):
                    if (wait := due - self._now()) > 0:
                        await self._pause(wait)
                    await self._slots.acquire()
                    if self._stop.is_set():
                        break
                    self._posted += len(body)
                    bodies.create_task(self._deliver(session, body))
        except* _GaveUp as group:
            log.error("gave up", url=self._url, reason=str(group.exceptions[0]), after_s=self._give_up_s)
        finally:
            self.report.seconds = self._now() - began
            self.report.given_up = self._posted - self.report.events
        self._progress(self.report)
        return self.report

    async def _deliver(self, session: aiohttp.ClientSession, body: list[Line]) -> None:
        await self._until_answered(session, body)
        # Not on an error: the slot would let one more body out before the run is cancelled.
        self._slots.release()
        self._progress(self.report)

    async def _until_answered(self, session: aiohttp.ClientSession, body: list[Line]) -> None:
        """Post a body until it is answered or the run is stopped. Raises `_GaveUp`, which ends the run."""
        data = b"".join(line.raw + b"\n" for line in body)
        first_sent, backoff = self._now(), FIRST_BACKOFF_S
        while True:
            reason, asked_wait = await self._attempt(session, body, data)
            if reason is None:
                return self._note_back()
            self._note_away(reason)
            wait = max(asked_wait, backoff)
            if self._now() + wait - first_sent > self._give_up_s:
                raise _GaveUp(reason)
            await self._pause(wait)
            if self._stop.is_set():
                return None
            self.report.retried += len(body)
            backoff = min(2 * backoff, LONGEST_BACKOFF_S)

    async def _attempt(self, session: aiohttp.ClientSession, body: list[Line], data: bytes) -> tuple[str | None, float]:
        """(None, 0) when the body was answered, else why not and how long the server asks to wait, in seconds."""
        try:
            async with session.post(self._url, data=data, headers=self._headers, allow_redirects=False) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return str(error) or type(error).__name__, 0
        if answer.status >= 500 or answer.status in _RETRIED:
            return f"HTTP {answer.status}", _retry_after_s(answer.headers.get("Retry-After"))
        self._settle(body, answer.status, content)
        return None, 0

    def _settle(self, body: list[Line], status: int, content: bytes) -> None:
        """Count a final answer and tell which lines it accepted. (The server names the first 100 rejected ones.)"""
        refused: dict[int, str]
        try:
            answer = msgspec.json.decode(content, type=_Answer)
            rejected = len(body) - answer.accepted
            told = [fault for fault in answer.errors if 0 <= fault.index < len(body)]
            refused = {fault.index: f"{fault.field}: {fault.detail}" for fault in told}
        except msgspec.DecodeError:
            # Not the answer to a bulk body: a problem document, or another server. It accepted nothing.
            rejected = len(body)
            refused = dict.fromkeys(range(len(body)), f"HTTP {status}: {content[:200].decode(errors='replace')}")
        self.report.bodies += 1
        self.report.calls += sum(line.begins for line in body)
        self.report.accepted += len(body) - rejected
        self.report.rejected += rejected
        room = SHOWN_FAULTS - len(self.report.faults)
        self.report.faults += [
            f"{why} in {body[index].raw[:200].decode()}" for index, why in list(refused.items())[:room]
        ]
        self._acknowledged([line.raw for index, line in enumerate(body) if index not in refused])

    async def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than until the run is stopped."""
        slept = asyncio.ensure_future(self._sleep(seconds))
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((slept, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            slept.cancel()
            stopped.cancel()

    def _note_away(self, reason: str) -> None:
        if not self._away:
            log.warning("server does not take events, repeating", url=self._url, reason=reason)
        self._away = True

    def _note_back(self) -> None:
        if self._away:
            log.info("server takes events again", url=self._url)
        self._away = False


def _bodies(lines: Iterable[Line], began: float, speed: float) -> Iterator[tuple[float, list[Line]]]:
    """The lines in bodies, each with the time (in seconds, like `began`) at which its last event is due."""
    first_us: int | None = None
    body: list[Line] = []
    opened = due = began
    for line in lines:
        first_us = line.at_us if first_us is None else first_us
        at = began + (line.at_us - first_us) / 1e6 / speed
        if body and (at > opened + TOGETHER_S or len(body) == MAX_EVENTS):
            yield due, body
            body = []
        if not body:
            opened = at
        body.append(line)
        due = at
    if body:
        yield due, body


def _retry_after_s(header: str | None) -> float:
    """The seconds of a Retry-After header; 0 without one, or when it holds a date (our servers send seconds)."""
    return float(header) if header is not None and header.isdecimal() else 0.0
