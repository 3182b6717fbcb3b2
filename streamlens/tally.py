"""The sums of what is only counted: lines of application logs, system metrics, warnings about quality.

Values are integers, in millionths; they may outgrow 64 bits, which is why the stored form is JSON.
"""

import msgspec


class Tally(msgspec.Struct, array_like=True, gc=False):
    """How often, and the sum and extremes of the values; all 0 for what has no value. New fields go to the end."""

    count: int = 0
    sum: int = 0
    low: int = 0
    high: int = 0

    def add(self, value: int = 0, times: int = 1) -> None:
        """Count `value`, `times` over."""
        self.low = min(self.low, value) if self.count else value
        self.high = max(self.high, value) if self.count else value
        self.count += times
        self.sum += times * value

    def merge(self, other: "Tally") -> None:
        """Add what `other` has counted to this."""
        if other.count:
            self.low = min(self.low, other.low) if self.count else other.low
            self.high = max(self.high, other.high) if self.count else other.high
        self.count += other.count
        self.sum += other.sum


encode_tally = msgspec.json.Encoder().encode
decode_tally = msgspec.json.Decoder(Tally).decode
