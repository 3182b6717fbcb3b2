"""Event time: how far a partition has come (its watermark), and the lines that follow from it. Pure arithmetic."""

from collections.abc import Mapping

import msgspec

IDLE_AFTER_US = 10_000_000
"""An input counts as idle when it has been read to its end for this long."""


class Lines(msgspec.Struct, frozen=True):
    """Which windows a watermark closes and expires. A window's number is its start divided by `window_us`."""

    window_us: int
    join_timeout_us: int
    out_of_order_us: int
    lateness_us: int

    def closed(self, watermark_us: int) -> int:
        """The last window that is final: its end, the join timeout and the out-of-orderness have passed."""
        return (watermark_us - self.join_timeout_us - self.out_of_order_us) // self.window_us - 1

    def expired(self, watermark_us: int) -> int:
        """The last window that has passed the allowed lateness: its events are late, its rows and marks go."""
        return (watermark_us - self.lateness_us) // self.window_us - 1


class Watermark:
    """One partition's watermark, monotone: the lowest of its inputs' highest event times, less the out-of-orderness.

    An event time counts up to the wall clock only, so a client with a fast clock makes nobody else late. Idle inputs do
    not count; when all are idle the wall clock does, so that the last window of the day closes.
    """

    def __init__(self, topics: Mapping[str, int] | None, value_us: int, out_of_order_us: int) -> None:
        self.value_us = value_us
        self.highest_us: dict[str, int] = dict(topics or {})
        self._out_of_order_us = out_of_order_us
        self._at_end_since_us: dict[str, int] = {}

    def advance(self, now_us: int, offsets: Mapping[str, int], ends: Mapping[str, int]) -> None:
        """Move on, given the next offsets to read and the end offsets fetched just now."""
        low = now_us
        for topic, end in ends.items():
            if offsets.get(topic, 0) < end:
                self._at_end_since_us.pop(topic, None)
            elif now_us - self._at_end_since_us.setdefault(topic, now_us) >= IDLE_AFTER_US:
                continue
            low = min(low, self.highest_us.get(topic, 0))
        self.value_us = max(self.value_us, low - self._out_of_order_us)

    def encode(self) -> bytes:
        return msgspec.msgpack.encode((self.value_us, self.highest_us))

    @classmethod
    def decode(cls, raw: bytes, out_of_order_us: int) -> "Watermark":
        if not raw:
            return cls(None, 0, out_of_order_us)
        value_us, highest = msgspec.msgpack.decode(raw, type=tuple[int, dict[str, int]])
        return cls(highest, value_us, out_of_order_us)
