"""Stage one: joins requests with responses by id, and sums the calls of its partition per window and series.

What applications tell besides their calls is counted beside them. Late, repeated and bad events are booked in the
ledger; what can't be counted goes to the dead letters.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from streamlens.app import app
from streamlens.checkpoint.frames import Version
from streamlens.checkpoint.state import State
from streamlens.deadletters import Reason
from streamlens.errors import BadEvent
from streamlens.events import Call, Event, Request, Response, decoder, time_us
from streamlens.facets import Facets
from streamlens.join import Half, RequestHalf, ResponseHalf, scoped
from streamlens.log import TP, Record, Run
from streamlens.misplaced import check_place
from streamlens.observations import AppLog, Observation, SystemMetric
from streamlens.options import JoinOptions
from streamlens.runtime import clock_us
from streamlens.topics import CLOSED_KEY, DEAD_LETTERS, SOURCES, decode_closed, encode_closed, packed
from streamlens.turns import idle
from streamlens.watermark import Watermark
from tables import ledger, letters
from tables.calls import Calls
from tables.caps import Caps
from tables.ledger import NOBODY, Ledger
from tables.letters import Letters
from tables.observed import Observed
from tables.pending import Pending
from tables.recent import Recent
from tables.visits import Visits

_RECORDS = 250
"""Counted at once: a millisecond or two, for which nobody else has the event loop."""
_AHEAD = BadEvent("timestamp", "too far in the future")
_LATE = BadEvent("timestamp", "older than the allowed lateness")


class Join:
    """The logic of one partition of stage one."""

    outputs = Calls.prefixes + Observed.prefixes + ledger.PREFIX + CLOSED_KEY + letters.PREFIX

    def __init__(self, partition: int, options: JoinOptions) -> None:
        self._partition = partition
        self._options = options
        self._lines = options.lines
        self._window_us = options.lines.window_us
        self._pending = Pending()
        self._caps = Caps(options.limits)
        self._facets = Facets(options.facets)
        self._ledger = Ledger()
        self._observed = Observed(self._caps, self._facets, self._pending, self._ledger)
        recent = Recent(partition, options.details, options.user_hash)
        visits = Visits(options.lines.window_us, options.max_visitors, options.user_hash)
        self._calls = Calls(self._caps, self._facets, options.prices, self._observed, self._ledger, recent, visits)
        self._details = options.details
        self._letters = Letters()
        self._offsets: Mapping[str, int] = {}
        self._since_ms = self._published_since_ms = 0
        self._watermark: Watermark
        self._state: State
        self._expired = -1
        self._by_tenant = options.by_tenant
        self._has_scoped = False
        self._count: dict[str, Callable[[Any, int, int, bytes], None]] = {
            "request": self._request,
            "response": self._response,
            "call": self._call,
            "evaluation": self._observed.evaluation,
            "log": self._observed.log,
            "metric": self._observed.metric,
        }

    # -- the unit's verbs ----------------------------------------------------------------------------------------

    def open(self, state: State, header: bytes, offsets: Mapping[str, int]) -> None:
        self._state = state
        self._offsets = offsets
        self._watermark = Watermark.decode(header, self._lines.out_of_order_us)
        # What has closed or expired stays so, also when the settings now draw the lines further back.
        closed, expired = decode_closed(held) if (held := state.get(CLOSED_KEY)) else (-1, -1)
        self._ledger.closed = max(closed, self._lines.closed(self._watermark.value_us))
        self._expired = max(expired, self._lines.expired(self._watermark.value_us))
        self._pending.expired = self._expired
        self._pending.open(state)
        self._has_scoped = not self._by_tenant and any("\0" in each for each, _ in self._pending.waiting())
        self._calls.open(state, self._ledger.closed)
        self._observed.open(state, self._ledger.closed)
        self._ledger.open(state, self._ledger.closed)
        self._letters.open(state)

    def apply(self, topic: str, run: Run) -> None:
        kind, tp = SOURCES[topic], TP(topic, self._partition)
        self._since_ms = self._since_ms or run.appended_ms
        now_us = self._options.clock_us()
        latest_us = now_us + self._options.max_future_us
        highest_us = self._watermark.highest_us.get(topic, 0)
        window_us, expired = self._window_us, self._expired
        count, decode = self._count[kind], decoder(kind)
        event: Event | Observation | None = None
        for offset, raw in enumerate(run.values, run.first):
            try:
                event = decode(raw)
                ts = event.timestamp
                ts_us = ts * 1000 if type(ts) is int else time_us(ts)
            except BadEvent as error:
                self._reject(tp, offset, raw, "invalid" if error.field else "malformed", error, now_us)
                continue
            if ts_us > latest_us:
                self._reject(tp, offset, raw, "future", _AHEAD, now_us)
                continue
            window = ts_us // window_us
            if window <= expired:
                self._late(tp, offset, raw, event, now_us)
                continue
            if ts_us > highest_us:
                highest_us = ts_us
            count(event, ts_us, window, raw)
        self._watermark.highest_us[topic] = highest_us
        if event is not None and not isinstance(event, AppLog | SystemMetric):
            check_place(topic, event.request_id, self._partition, self._options.partitions)  # of each run, its last

    def advance(self, now_us: int, ends: Mapping[str, int]) -> None:
        self._watermark.advance(now_us, self._offsets, ends)
        closed = self._lines.closed(self._watermark.value_us)
        expired = self._lines.expired(self._watermark.value_us)
        if closed > self._ledger.closed:
            self._close(closed)
        if expired > self._expired:
            self._expire(expired)

    def flush(self) -> bytes:
        self._published_since_ms, self._since_ms = self._since_ms, 0
        for half in self._pending.new():
            self._ledger.wait(*self._place(half))
        self._pending.flush()
        self._calls.flush(self._expired)
        self._observed.flush(self._expired)
        self._ledger.flush(self._expired)
        self._letters.flush()
        # Last, so that it is published after the rows that it speaks of.
        announcement = encode_closed((self._ledger.closed, self._expired))
        if self._ledger.closed >= 0 and self._state.get(CLOSED_KEY) != announcement:
            self._state.put(CLOSED_KEY, announcement)
        return self._watermark.encode()

    def render(self, outputs: Iterable[tuple[bytes, bytes]], version: Version) -> Iterator[tuple[TP, Record]]:
        rows: list[tuple[bytes, bytes]] = []
        for output in outputs:
            key, value = output
            if key[:1] == letters.PREFIX:
                yield TP(DEAD_LETTERS, self._partition), Record(key[1:], value)
            else:
                rows.append(output)
        yield from packed(rows, self._partition, version, self._published_since_ms, self._options.partitions)

    @property
    def watermark_us(self) -> int:
        """How far the partition has come in event time; 0 before the first event."""
        return self._watermark.value_us

    # -- one event -----------------------------------------------------------------------------------------------

    def _request(self, event: Request, ts_us: int, window: int, raw: bytes) -> None:
        request_id, tenant_id = event.request_id, event.tenant_id
        if self._by_tenant:
            request_id = scoped(request_id, tenant_id)
        waiting = self._pending.get(taken := request_id)
        if waiting is None and self._has_scoped:
            waiting = self._pending.get(taken := scoped(request_id, tenant_id))
        if waiting is None:
            if self._pending.repeats(request_id, window):
                self._ledger.book(window, tenant_id, "duplicate")
            else:
                self._pending.add(request_id, RequestHalf.of(event, ts_us, self._facets, self._details))
        elif isinstance(waiting, ResponseHalf):
            self._take(taken, waiting)
            last = max(window, waiting.ts_us // self._window_us)
            self._joined(request_id, window, last, RequestHalf.of(event, ts_us, self._facets, self._details), waiting)
        else:
            self._ledger.book(window, tenant_id, "duplicate")

    def _response(self, event: Response, ts_us: int, window: int, raw: bytes) -> None:
        request_id, tenant_id = event.request_id, event.tenant_id
        if self._by_tenant:  # what names no tenant joins nothing
            request_id, tenant_id = scoped(request_id, tenant_id or NOBODY), None
        waiting = self._pending.get(added := request_id)
        if type(waiting) is RequestHalf and (tenant_id is None or tenant_id == waiting.tenant_id):
            request_window = waiting.ts_us // self._window_us
            if not self._pending.take(request_id):
                self._ledger.leave(request_window, waiting.tenant_id)
            self._pending.mark(request_id, window if window > request_window else request_window)
            response = ResponseHalf.of(event, ts_us, self._facets, self._details)
            self._calls.count(request_id, request_window, waiting, response)
            return
        if tenant_id is not None:
            self._has_scoped = True
            waiting = self._pending.get(added := scoped(request_id, tenant_id))
        if waiting is not None or self._pending.repeats(request_id, window):
            self._ledger.book(window, NOBODY, "duplicate")
        else:
            self._pending.add(added, ResponseHalf.of(event, ts_us, self._facets, self._details))

    def _call(self, event: Call, ts_us: int, window: int, raw: bytes) -> None:
        own_id = scoped(event.request_id, event.tenant_id)
        ids = (own_id,) if self._by_tenant else (event.request_id, own_id)
        request_id, last = ids[0], window
        for taken in ids:
            if waiting := self._pending.get(taken):  # The call says all that a waiting half could.
                half_window, tenant_id = self._place(waiting)
                self._take(taken, waiting)
                self._ledger.book(half_window, tenant_id, "duplicate")
                last = max(last, half_window)
        if self._pending.repeats(request_id, window):
            self._ledger.book(window, event.tenant_id, "duplicate")
        else:
            request, response = RequestHalf.of(event, ts_us, self._facets), ResponseHalf.of(event, ts_us, self._facets)
            self._joined(request_id, window, last, request, response, event)

    def _take(self, request_id: str, waiting: Half) -> None:
        """A half waits no more, and is booked elsewhere."""
        if not self._pending.take(request_id):
            self._ledger.leave(*self._place(waiting))

    def _joined(
        self,
        request_id: str,
        window: int,
        last: int,
        request: RequestHalf,
        response: ResponseHalf,
        event: Call | None = None,
    ) -> None:
        """Count a call, of two events or one, in its window; `last` is the latest window of its events."""
        self._pending.mark(request_id, last)
        self._calls.count(request_id, window, request, response, event)

    def _place(self, half: Half) -> tuple[int, str]:
        """Where a waiting half is booked: its window and tenant."""
        return half.ts_us // self._window_us, half.tenant_id if isinstance(half, RequestHalf) else NOBODY

    # -- what is not counted, and time ---------------------------------------------------------------------------

    def _late(self, tp: TP, offset: int, raw: bytes, event: Event | Observation, now_us: int) -> None:
        """Its own minute has expired, so it is booked to the minute in which it was read."""
        tenant_id = NOBODY if isinstance(event, Response) else event.tenant_id
        self._ledger.book(now_us // self._window_us, tenant_id, "late")
        self._letters.add(tp, offset, raw, "late", _LATE, now_us)

    def _reject(self, tp: TP, offset: int, raw: bytes, reason: Reason, error: BadEvent, now_us: int) -> None:
        self._ledger.book(now_us // self._window_us, NOBODY, "rejected")
        self._letters.add(tp, offset, raw, reason, error, now_us)

    def _close(self, closed: int) -> None:
        """Halves of the windows that close go from pending to orphaned; they can still be joined."""
        for half in self._pending.booked():
            window, tenant_id = self._place(half)
            if self._ledger.closed < window <= closed:
                self._ledger.orphan(window, tenant_id)
        self._ledger.closed = closed
        self._calls.rest(closed)
        self._observed.rest(closed)
        self._caps.rest(closed)
        self._ledger.rest(closed)

    def _expire(self, expired: int) -> None:
        """Halves of expired windows can't be joined any more: they stay orphaned."""
        gone = [(rid, half) for rid, half in self._pending.waiting() if half.ts_us // self._window_us <= expired]
        for request_id, half in gone:
            if self._pending.take(request_id):
                self._ledger.wait(*self._place(half))
        self._pending.expired = self._expired = expired


options = JoinOptions.of(app.settings, clock_us, lambda: app.runtime.log.log_id)
stage = app.stage("pending", tuple(SOURCES), lambda partition: Join(partition, options))


@app.agent(app.topic(*SOURCES, value_serializer="raw", value_type=bytes, acks=False))
async def join(stream: Any) -> None:
    """Count what applications sent, when nobody waits for an answer."""
    async for event in stream.events():
        await asyncio.sleep(0)  # a queue that holds more runs gives no turn to what others wait for
        for piece in event.value.pieces(_RECORDS):
            await idle(lambda: sum(stage.lag().values()))
            await stage.process(event.message.tp, piece)
