"""How many events a second each tenant may send to this process: a token bucket each."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from streamlens.errors import Unavailable

BURST_S = 10.0
"""A bucket holds what its tenant may send in so long."""
MOST_BUCKETS = 10_000
"""The tenant that was silent for longest is forgotten, which fills its bucket."""


class RateLimited(Unavailable):
    """A tenant sends more than it may, and has to wait."""


class RateLimit:
    """The buckets. Each is the time at which it is full again, so a full one needs no entry.

    Who sends more events at once than a bucket holds has to wait until it is full, and pays the rest off afterwards:
    a large body is never refused for ever, and the rate holds all the same.
    """

    def __init__(self, events_per_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        """`events_per_s` above 0; `clock_s` in seconds, never going back."""
        self._events_per_s = events_per_s
        self._clock_s = clock_s
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, events: Mapping[str, int]) -> None:
        """Take a token per event from each tenant's bucket, or none at all: then it raises `RateLimited`."""
        now = self._clock_s()
        wait_s = max((self._wait_s(tenant, count, now) for tenant, count in events.items()), default=0.0)
        if wait_s > 0:
            detail = f"more than {self._events_per_s:g} events per second of one tenant"
            raise RateLimited(detail, retry_after_s=math.ceil(wait_s))
        for tenant, count in events.items():
            self._full_at[tenant] = max(self._full_at.get(tenant, now), now) + count / self._events_per_s
            self._full_at.move_to_end(tenant)
        while len(self._full_at) > MOST_BUCKETS:
            self._full_at.popitem(last=False)

    def _wait_s(self, tenant: str, count: int, now: float) -> float:
        missing_s = max(self._full_at.get(tenant, now) - now, 0.0)
        return missing_s + min(count / self._events_per_s, BURST_S) - BURST_S
