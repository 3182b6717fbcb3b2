"""Events that wait to be sent, within bounds, and what has become of all others. Safe for threads."""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_BATCH_BYTES = 1 << 20
MOST_REASONS = 10


@dataclass(frozen=True)
class Stats:
    """Numbers of events. Each that was recorded is `sent`, `rejected`, `dropped` or `waiting`."""

    sent: int
    """Accepted by the server."""
    rejected: int
    """Not valid, or refused for good."""
    dropped: int
    """No room, or no time before the end; of the latter the server may have some."""
    waiting: int
    retried: int
    """Repetitions."""
    reasons: tuple[str, ...]
    """The first different ones for which events were rejected."""


class Event(NamedTuple):
    """A line of JSON, and the route that takes it."""

    path: str
    raw: bytes


@dataclass(frozen=True)
class Answer:
    """What has become of the events of a body. With `wait_s` nothing yet: it has to come again, not before that."""

    accepted: int
    rejected: int
    reasons: Sequence[str] = ()
    wait_s: float | None = None


class Buffer:
    """A queue for one reader. Only `take`, `pause` and `flush` wait."""

    def __init__(self, max_events: int, max_bytes: int, batch_events: int, interval_s: float) -> None:
        self.changed = threading.Condition()  # over an RLock, since a signal's code may record in the middle of this
        self.closed = False
        self.abandoned = False
        """Whoever waited for the rest has given up."""
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._batch_events = min(batch_events, max_events)
        self._interval_s = interval_s
        self._queue: deque[Event] = deque()
        self._taken = 0
        """Events that were put."""
        self._settled = 0
        """Those of them that have an answer, the oldest ones."""
        self._wanted = 0
        """Up to this event somebody waits for answers."""
        self._bytes = 0
        self._counts: Counter[str] = Counter()
        self._reasons: list[str] = []

    @property
    def stats(self) -> Stats:
        with self.changed:
            counts, waiting = self._counts, self._taken - self._settled
            reasons = tuple(self._reasons)
            return Stats(counts["sent"], counts["rejected"], counts["dropped"], waiting, counts["retried"], reasons)

    def put(self, event: Event) -> bool:
        """Append, or drop when there is no room."""
        size = len(event.raw)
        with self.changed:
            full = self._taken - self._settled >= self._max_events or self._bytes + size > self._max_bytes
            if full or self.closed:
                return self.drop()
            self._queue.append(event)
            self._taken += 1
            self._bytes += size
            if len(self._queue) in (1, self._batch_events):
                self.changed.notify_all()
            return True

    def drop(self) -> bool:
        """Count an event that nobody will send; False."""
        with self.changed:
            self._counts["dropped"] += 1
            return False

    def reject(self, reason: str) -> None:
        """Count an event that can't be sent."""
        with self.changed:
            self._count(Answer(0, 1, [reason]))

    def take(self) -> list[Event]:
        """The oldest events, once they are many, or have waited long, or somebody waits for them. None: the end."""
        with self.changed:
            self.changed.wait_for(lambda: self._queue or self.closed)
            self.changed.wait_for(
                lambda: self.closed or self._wanted > self._settled or len(self._queue) >= self._batch_events,
                self._interval_s,
            )
            batch: list[Event] = []
            size = 0
            while self._queue and len(batch) < self._batch_events and size < MAX_BATCH_BYTES:
                batch.append(self._queue.popleft())
                size += len(batch[-1].raw)
            return batch

    def settle(self, batch: Sequence[Event], answers: Sequence[Answer]) -> None:
        """The events of a `take` have their answers."""
        with self.changed:
            if self.abandoned:
                return  # they are counted as dropped
            for answer in answers:
                self._count(answer)
            self._settled += len(batch)
            self._bytes -= sum(len(event.raw) for event in batch)
            self.changed.notify_all()

    def pause(self, seconds: float, was_closed: bool) -> bool:
        """Wait before a repetition. True: no longer than until the buffer was closed, if it was not before."""
        with self.changed:
            return self.changed.wait_for(lambda: self.abandoned or self.closed != was_closed, seconds)

    def repeat(self, events: int) -> None:
        """Count a repetition."""
        with self.changed:
            self._counts["retried"] += events

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put before has an answer. False: not within `timeout_s`."""
        with self.changed:
            target = self._wanted = self._taken
            self.changed.notify_all()
            return self.changed.wait_for(lambda: self._settled >= target, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Take nothing more, flush, and drop what then has no answer (False)."""
        with self.changed:
            self.closed = True
            self.flush(timeout_s)
            left = self._taken - self._settled
            self._counts["dropped"] += left
            self._settled = self._taken
            self._bytes = 0
            self._queue.clear()
            self.abandoned = True
            self.changed.notify_all()
            return left == 0

    def _count(self, answer: Answer) -> None:
        self._counts.update(sent=answer.accepted, rejected=answer.rejected)
        new = [reason for reason in dict.fromkeys(answer.reasons) if reason not in self._reasons]
        self._reasons += new[: MOST_REASONS - len(self._reasons)]
