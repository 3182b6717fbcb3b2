"""aiokafka logs every attempt to reach a broker that is away, sixty lines a second; this lets one a minute through."""

import logging
import time
from collections.abc import Callable

EVERY_S = 60.0


class OncePerMinute(logging.Filter):
    """Drops a warning or an error whose text, before its arguments, was logged less than a minute ago."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._next: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, key = self._clock_s(), (record.name, str(record.msg))
        if record.levelno < logging.WARNING:
            return True
        if now < self._next.get(key, now):
            return False
        self._next[key] = now + EVERY_S
        return True


_filter = OncePerMinute()


def quieten() -> None:
    """Put the filter on all of aiokafka's loggers, because one on a parent does not bind its children."""
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "aiokafka"]:
        logging.getLogger(name).addFilter(_filter)
