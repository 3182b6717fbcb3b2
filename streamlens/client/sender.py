"""The thread that empties a buffer: the oldest events first, each body again until it is answered."""

import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from .buffer import Answer, Buffer, Event
from .post import Post, packed

FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 30.0
WARN_EVERY_S = 60.0

_log = logging.getLogger("streamlens.client")


class Sender:
    """Starts with the first event. A daemon: it ends with the interpreter, or when the buffer is closed and empty."""

    def __init__(self, buffer: Buffer, post: Post) -> None:
        self._buffer = buffer
        self._post = post
        self._thread: threading.Thread | None = None
        self._trouble = ""
        """Why the server does not take events, while it does not."""
        self._told = 0
        self._told_at = -WARN_EVERY_S

    def start(self) -> bool:
        """Have the thread run. False: no thread can be started, because there are too many, or the interpreter ends."""
        if self._thread is not None:
            return True
        with self._buffer.changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="streamlens-client", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._thread = thread
        return True

    def warn(self, *, last: bool = False) -> None:
        """Log what was lost and what is wrong, if there is anything: once a minute, and at the end."""
        with self._buffer.changed:
            stats, now = self._buffer.stats, time.monotonic()
            lost = stats.dropped + stats.rejected
            due = last or now >= self._told_at + WARN_EVERY_S
            if not due or (lost == self._told and not self._trouble):
                return
            self._told, self._told_at = lost, now
        why = "; ".join(filter(None, [self._trouble, *stats.reasons[:1]])) or "more events than can be sent"
        counts = (stats.dropped, stats.rejected, stats.waiting)
        try:
            _log.warning("%s: %d events dropped, %d rejected, %d waiting: %s", self._post.url, *counts, why)
        except Exception:  # of a handler of the application, which this must not break
            pass

    def _run(self) -> None:
        while batch := self._buffer.take():
            try:
                answers = self._answers(batch)
            except Exception as error:  # this thread must go on, or all is lost silently
                answers = [Answer(0, len(batch), [f"{type(error).__name__}: {error}"])]
            self._buffer.settle(batch, answers)
            self.warn()

    def _answers(self, batch: Sequence[Event]) -> list[Answer]:
        lines: defaultdict[str, list[bytes]] = defaultdict(list)
        for event in batch:
            lines[event.path].append(event.raw)
        return [self._deliver(path, of_path) for path, of_path in lines.items()]

    def _deliver(self, path: str, lines: Sequence[bytes]) -> Answer:
        """Send one body until there is a final answer, or nobody waits for it any more."""
        body = packed(lines)
        backoff_s = FIRST_BACKOFF_S
        while True:
            closed = self._buffer.closed
            answer = self._post.send(path, body, len(lines))
            self._trouble = "" if answer.wait_s is None else answer.reasons[0]
            if answer.wait_s is None or self._buffer.abandoned:
                return answer
            self.warn()
            hurried = self._buffer.pause(answer.wait_s + backoff_s * random.uniform(0.5, 1.0), closed)
            if self._buffer.abandoned:
                return answer
            self._buffer.repeat(len(lines))
            backoff_s = FIRST_BACKOFF_S if hurried else min(2 * backoff_s, LONGEST_BACKOFF_S)
