"""What the views need of the running process, in one value: the seam between HTTP and everything behind it.

The app installs it once its parts have started; a test installs its own, with no app or broker behind it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from streamlens.errors import Unavailable
from streamlens.keys import Keys
from streamlens.live import Live
from streamlens.log import Log
from streamlens.ratelimit import RateLimit
from streamlens.settings import Settings
from streamlens.userhash import UserHash


class Part(msgspec.Struct, frozen=True):
    """One part of the process as `/ready` tells of it; `detail` says what is wrong, or how well it does."""

    ok: bool
    detail: str = ""


class HealthReport(msgspec.Struct, frozen=True):
    """What must be well before this process should get traffic."""

    log: Part
    postgres: Part
    partitions: Part
    """All partitions that this worker owns are recovered."""
    lag: Part

    @property
    def ok(self) -> bool:
        return self.log.ok and self.postgres.ok and self.partitions.ok and self.lag.ok


class Progress(msgspec.Struct, frozen=True):
    """How far this process is; None where there is nothing to tell of yet."""

    worker: str
    uptime_s: float
    lag_records: int
    """In the log, not counted yet."""
    watermark_lag_s: float | None
    """Of the partition that is furthest behind the wall clock."""
    checkpoint_age_s: float | None
    """Of the stage whose last checkpoint is the oldest."""
    freshness_p95_s: float | None
    """From the append of an event to the commit of its row, of the last writes."""


class Services(msgspec.Struct, frozen=True):
    """`partitions` is that of the input topics; `pool` an asyncpg pool for questions; `clock_us` the wall clock.

    `keys` None: everybody may do everything; `rate_limit` None: any number of events.
    """

    log: Log
    partitions: int
    pool: Any
    settings: Settings
    clock_us: Callable[[], int]
    health: Callable[[], HealthReport]
    keys: Keys | None
    rate_limit: RateLimit | None
    live: Live
    progress: Callable[[], Progress]
    user_hash: UserHash


_installed: Services | None = None


def install(services: Services | None) -> None:
    """Make `services` the ones that views use; None takes them away, when the process stops."""
    global _installed
    _installed = services


def current() -> Services:
    """The installed services. Raises `Unavailable` before they are installed, which HTTP answers with 503."""
    if _installed is None:
        raise Unavailable("starting")
    return _installed
