"""Seeded traffic for the input topics, and the calls that it must become.

Halves in either order and up to a minute and a half apart, old calls, whole calls, orphans, repetitions, late events
and poison. Nothing comes near the line of lateness, so what must be counted does not depend on what breaks meanwhile.
"""

import heapq
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import BinaryIO

import msgspec

from streamlens.log import TP, Record
from streamlens.partitioner import partition_of
from streamlens.pricing import Prices
from streamlens.simulate.call import SimulatedCall
from streamlens.simulate.oracle import MINUTE_US, Oracle, Row
from streamlens.simulate.synthetic import Traffic, calls
from streamlens.topics import CALLS, INPUTS, REQUESTS, RESPONSES

SECOND_US = 1_000_000
LATE = "late-"
"""Ids that begin so belong to events of hours ago."""
POISON = b"poison"
"""Every record that no decoder takes has it in its key."""
_END_US = 1 << 62
_OLDEST_US = 900 * SECOND_US
_LATE_BY_US = 3 * 3600 * SECOND_US
_SEVERAL_TENANTS = 5


class Generator:
    """Makes records as time goes by; `path` keeps the lines for the oracle, a file a minute."""

    def __init__(
        self, seed: int, rate: float, partitions: int, path: Path, start_us: int, *, poison: bool = True
    ) -> None:
        """`rate` in events per second."""
        self.made = 0
        self._random = Random(f"traffic:{seed}")
        self._calls = calls(Traffic(rate / 2, None, _SEVERAL_TENANTS, seed=seed), start_us)
        self._next: SimulatedCall = next(self._calls)
        self._partitions = partitions
        self._path = path
        self._files: dict[int, BinaryIO] = {}
        self._with_poison = poison
        self._heap: list[tuple[int, int, TP, Record]] = []
        self._numbers = count()
        path.mkdir()

    def first(self, now_us: int) -> dict[TP, list[Record]]:
        """A call and two halves for each partition: afterwards the watermark of each is there, and late is late."""
        wanted = {TP(topic, p) for topic in INPUTS for p in range(self._partitions)}
        while wanted:
            call = self._draw(now_us)
            kinds = (REQUESTS, RESPONSES) if TP(REQUESTS, self._partition(call)) in wanted else (CALLS,)
            if TP(kinds[0], self._partition(call)) in wanted:
                wanted -= {TP(kind, self._partition(call)) for kind in kinds}
                self._send(call, kinds, (0, 0))
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

    def rows(self) -> Iterator[Row]:
        """The rows that all of it must become."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        prices = Prices()
        for minute in sorted(self._path.iterdir()):
            oracle = Oracle(prices)
            oracle.acknowledged(minute.read_bytes().splitlines())
            yield from oracle.rows()

    # -- what is sent --------------------------------------------------------------------------------------------

    def _draw(self, started_us: int) -> SimulatedCall:
        call, self._next = self._next, next(self._calls)
        return msgspec.structs.replace(call, started_us=started_us)

    def _plan(self, call: SimulatedCall) -> None:
        kind = self._random.random()
        due_us = call.started_us
        if kind < 0.03:
            call = msgspec.structs.replace(call, started_us=due_us - self._random.randrange(_OLDEST_US))
        delays = (self._delay_us(), self._delay_us())
        kind = self._random.random()
        if kind < 0.03:
            self._send(call, (REQUESTS,), delays, due_us)
        elif kind < 0.05:
            self._send(call, (RESPONSES,), delays, due_us)
        elif kind < 0.25:
            self._send(call, (CALLS,), delays, due_us)
        else:
            self._send(call, (REQUESTS, RESPONSES), delays, due_us)
        if kind > 0.99 and self._with_poison:
            self._poison(due_us)
        elif kind > 0.985:
            late = {"request_id": LATE + call.request_id, "started_us": due_us - _LATE_BY_US}
            self._send(msgspec.structs.replace(call, **late), (REQUESTS, CALLS, RESPONSES), delays, due_us)

    def _delay_us(self) -> int:
        seconds = self._random.uniform(0, 90) if self._random.random() < 0.05 else self._random.expovariate(2)
        return int(seconds * SECOND_US)

    def _send(
        self, call: SimulatedCall, kinds: tuple[str, ...], delays: tuple[int, int], due_us: int | None = None
    ) -> None:
        due_us = call.started_us if due_us is None else due_us
        raws = {REQUESTS: call.request(), RESPONSES: call.response(), CALLS: whole(call)}
        for topic in kinds:
            record = Record(call.request_id.encode(), raws[topic])
            at_us = due_us + delays[topic == RESPONSES]
            self._put(at_us, TP(topic, self._partition(call)), record)
            if self._random.random() < 0.02:
                self._put(at_us + self._delay_us(), TP(topic, self._partition(call)), record)
        if not call.request_id.startswith(LATE) and kinds in ((CALLS,), (REQUESTS, RESPONSES)):
            minute = call.started_us // MINUTE_US
            if minute not in self._files:
                self._files[minute] = (self._path / str(minute)).open("ab")
            self._files[minute].write(raws[REQUESTS] + b"\n" + raws[RESPONSES] + b"\n")

    def _poison(self, due_us: int) -> None:
        call = msgspec.structs.replace(self._next, started_us=due_us + 86_400 * SECOND_US)
        shapes = (b"", b"{", b"\xff\xfe", b"null", b'{"request_id":"x"}', b"[" * 5_000)
        value = self._random.choice((*shapes, call.request(), call.response(), whole(call)))
        topic = self._random.choice(tuple(INPUTS))
        self._put(due_us, TP(topic, self._random.randrange(self._partitions)), Record(POISON, value))

    def _put(self, at_us: int, tp: TP, record: Record) -> None:
        heapq.heappush(self._heap, (at_us, next(self._numbers), tp, record))

    def _partition(self, call: SimulatedCall) -> int:
        return partition_of(call.request_id.encode(), self._partitions)


def whole(call: SimulatedCall) -> bytes:
    """The call as one event of `llm.calls`."""
    call = msgspec.structs.replace(call, tells_latency=True)
    request, response = json.loads(call.request()), json.loads(call.response())
    return json.dumps(response | request | {"type": "call"}).encode()
