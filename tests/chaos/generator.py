"""Seeded traffic for the input topics, of all kinds of events; its journal has what of it must count.

Halves in either order and up to a minute and a half apart, old calls, whole calls, orphans, repetitions, late events
and poison, and beside the calls what applications tell of them. Nothing comes near the line of lateness, so what must
be counted does not depend on what breaks meanwhile.
"""

import heapq
import json
from itertools import count
from pathlib import Path
from random import Random

import msgspec

from chaos import observations, poison, spans
from chaos.details import tell_more, whole
from chaos.journal import Journal
from streamlens.log import TP, Record
from streamlens.partitioner import partition_of
from streamlens.simulate.call import SimulatedCall
from streamlens.simulate.synthetic import Traffic, calls
from streamlens.topics import CALLS, INPUTS, OBSERVATIONS, REQUESTS, RESPONSES, SOURCES

SECOND_US = 1_000_000
LATE = "late-"
"""Request ids that begin so belong to events of hours ago."""
_END_US = 1 << 62
_OLDEST_US = 900 * SECOND_US
_LATE_BY_US = 3 * 3600 * SECOND_US
_SEVERAL_TENANTS = 5
_CALLS_SHARE = 0.75
"""Of all events; as each call is about two, one in five comes with an event of each other kind."""


class Generator:
    """Makes records as time goes by; `path` keeps the journal."""

    def __init__(
        self,
        seed: int,
        rate: float,
        partitions: int,
        path: Path,
        start_us: int,
        *,
        has_poison: bool = True,
        plain: bool = False,
    ) -> None:
        """`rate` in events per second. `plain`: calls alone, as the simulator makes them, but for the use of caches,
        which each provider tells in its own way."""
        self.made = 0
        self.journal = Journal(path)
        self._random = Random(f"traffic:{seed}")
        share = 1 if plain else _CALLS_SHARE
        self._calls = calls(Traffic(rate * share / 2, None, _SEVERAL_TENANTS, seed=seed), start_us)
        self._next: SimulatedCall = next(self._calls)
        self._partitions = partitions
        self._has_poison = has_poison
        self._plain = plain
        self._topics = tuple(INPUTS if plain else SOURCES)
        self._heap: list[tuple[int, int, TP, Record]] = []
        self._numbers = count()

    def first(self, now_us: int) -> dict[TP, list[Record]]:
        """An event of each kind for each partition: afterwards the watermark of each is there, and late is late."""
        wanted = {TP(topic, p) for topic in self._topics for p in range(self._partitions)}
        while wanted:
            call = self._draw(now_us)
            partition = partition_of(call.request_id.encode(), self._partitions)
            kinds = (REQUESTS, RESPONSES) if TP(REQUESTS, partition) in wanted else (CALLS,)
            if TP(kinds[0], partition) in wanted:
                wanted -= {TP(kind, partition) for kind in kinds}
                self._send(call, kinds, (0, 0), now_us)
            for topic in self._topics:
                if topic in OBSERVATIONS and any(tp.topic == topic for tp in wanted):
                    wanted.discard(self._observe(topic, call, now_us))
        return self._pop(_END_US)

    def due(self, now_us: int) -> dict[TP, list[Record]]:
        """The records whose time has come."""
        while self._next.started_us <= now_us:
            self._plan(self._draw(self._next.started_us))
        return self._pop(now_us)

    def _pop(self, now_us: int) -> dict[TP, list[Record]]:
        found: dict[TP, list[Record]] = {}
        while self._heap and self._heap[0][0] <= now_us:
            _, _, tp, record = heapq.heappop(self._heap)
            found.setdefault(tp, []).append(record)
            self.made += 1
        return found

    def rest(self) -> dict[TP, list[Record]]:
        """What is still to come of calls that have begun."""
        return self._pop(_END_US)

    # -- what is sent --------------------------------------------------------------------------------------------

    def _draw(self, started_us: int) -> SimulatedCall:
        call, self._next = self._next, next(self._calls)
        if self._plain:
            call = msgspec.structs.replace(call, cached_tokens=0, cache_write_tokens=0)
        return msgspec.structs.replace(call, started_us=started_us)

    def _plan(self, call: SimulatedCall) -> None:
        due_us = call.started_us
        if self._random.random() < 0.03:
            call = msgspec.structs.replace(call, started_us=due_us - self._random.randrange(_OLDEST_US))
        delays = (self._delay_us(), self._delay_us())
        kind = self._random.random()
        if kind < 0.03:
            self._send(call, (REQUESTS,), delays, due_us)
        elif kind < 0.05:
            self._send(call, (RESPONSES,), delays, due_us)
        elif kind < 0.15 or (self._plain and kind < 0.25):
            self._send(call, (CALLS,), delays, due_us)
        elif kind < 0.25:
            self._export(call, due_us)
        else:
            self._send(call, (REQUESTS, RESPONSES), delays, due_us)
        late_id, late_us = LATE + call.request_id, due_us - _LATE_BY_US
        late = msgspec.structs.replace(call, request_id=late_id, started_us=late_us)
        if kind > 0.99 and self._has_poison:
            topic = self._random.choice(self._topics)
            value = poison.draw(self._random, topic, msgspec.structs.replace(self._next, started_us=due_us))
            self._put(due_us, TP(topic, self._random.randrange(self._partitions)), Record(poison.KEY, value))
        elif kind > 0.985:
            self._send(late, (REQUESTS, CALLS, RESPONSES), delays, due_us)
        for topic in self._topics:
            if topic in OBSERVATIONS and self._random.random() < 0.2:
                self._observe(topic, late if self._random.random() < 0.01 else call, due_us + self._delay_us())

    def _delay_us(self) -> int:
        seconds = self._random.uniform(0, 90) if self._random.random() < 0.05 else self._random.expovariate(2)
        return int(seconds * SECOND_US)

    def _send(self, call: SimulatedCall, kinds: tuple[str, ...], delays: tuple[int, int], due_us: int) -> None:
        request, response = json.loads(call.request()), json.loads(call.response())
        if not self._plain:
            tell_more(self._random, request, response)
        told = {REQUESTS: request, RESPONSES: response, CALLS: whole(request, response, call.latency_us)}
        counts = not call.request_id.startswith(LATE) and kinds in ((CALLS,), (REQUESTS, RESPONSES))
        for topic in kinds:
            raw = json.dumps(told[topic]).encode()
            self._place(due_us + delays[topic == RESPONSES], topic, Record(call.request_id.encode(), raw))
            if counts:
                self.journal.note(INPUTS[topic], call.started_us, raw)

    def _export(self, call: SimulatedCall, due_us: int) -> None:
        """Send the call of one span, or of two."""
        for value in list(spans.values(call))[: self._random.choice((1, 2))]:
            self._place(due_us + self._delay_us(), CALLS, Record(call.request_id.encode(), value))
        self.journal.note("call", call.started_us, value)

    def _observe(self, topic: str, call: SimulatedCall, due_us: int) -> TP:
        """Send an event of a topic of `OBSERVATIONS`; returns where it goes."""
        kind = OBSERVATIONS[topic]
        event = observations.draw(self._random, kind, call)
        record = observations.record(kind, event)
        tp = self._place(due_us, topic, record)
        if not call.request_id.startswith(LATE):
            self.journal.note(kind, call.started_us, record.value)
        if kind == "evaluation" and self._random.random() < 0.1:
            again = observations.record(kind, observations.again(self._random, event))
            self._place(due_us + SECOND_US + self._delay_us(), topic, again)
        return tp

    def _place(self, at_us: int, topic: str, record: Record) -> TP:
        """Put a record where its key belongs, now and then twice."""
        tp = TP(topic, partition_of(record.key or b"", self._partitions))
        self._put(at_us, tp, record)
        if self._random.random() < 0.02:
            self._put(at_us + self._delay_us(), tp, record)
        return tp

    def _put(self, at_us: int, tp: TP, record: Record) -> None:
        heapq.heappush(self._heap, (at_us, next(self._numbers), tp, record))
