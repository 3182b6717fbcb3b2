"""The stopwatch of the baselines: from the start of reading to the last event, in the process that counts them.

It needs the standard library alone, because each baseline runs in the environment of its own framework.
"""

import json
import os
import resource
import time
from collections.abc import Callable


class Stopwatch:
    """Ends the process, with one line of JSON on stdout, once `events` have been counted."""

    def __init__(self, events: int, ended: Callable[[], dict[str, int]] = dict) -> None:
        """`ended` adds what was found to the line."""
        self._left = self._events = events
        self._ended = ended
        self._began = 0.0
        self._cpu_began = 0.0

    def start(self) -> None:
        """The partitions are assigned: whatever is read from now on counts."""
        self._began, self._cpu_began = time.monotonic(), _cpu_s()

    def count(self, events: int) -> None:
        """`events` more are about to be worked on. Starts the clock where nobody could tell of the assignment."""
        if not self._began:
            self.start()
        self._left -= events

    def check(self) -> None:
        """After the work: print and end, if that was all."""
        if self._left > 0:
            return
        seconds, cpu_s = time.monotonic() - self._began, _cpu_s() - self._cpu_began
        events = self._events - self._left
        result = {
            "events/s": events / seconds,
            "events/core-s": events / cpu_s,
            "CPU-s/million": cpu_s / events * 1e6,
            "peak RSS MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        os.write(1, json.dumps(result | self._ended()).encode() + b"\n")  # Faust has taken sys.stdout
        os._exit(0)  # without goodbyes: a last commit or flush is not what is measured


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
