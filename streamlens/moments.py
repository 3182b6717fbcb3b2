"""The sums of an experiment's variant in a window: of each measure how often, the sum, and the sum of the squares.

All are integers, so the result does not depend on the order in which calls and sums are added, and means and variances
are exact. They outgrow 64 bits, which is why the stored form is JSON.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import field

from streamlens.scores import MILLION
from streamlens.usage import Usage

SCORE = "score:"
"""What comes before the name of an evaluation where it is a metric."""


class Metric(NamedTuple):
    """What variants are compared by: the `field` of `Variant`, whose integers are 10 ** -`digits` of the unit."""

    field: str
    digits: int


METRICS = {
    "latency_ms": Metric("latency_us", 3),
    "ttft_ms": Metric("ttft_us", 3),
    "cost_usd": Metric("cost_pico", 12),
    "error_rate": Metric("errors", 0),
    "tokens": Metric("tokens", 0),
}
"""By name; besides there are the scores of evaluations, in millionths."""
SCORE_DIGITS = 6


class Moments(msgspec.Struct, array_like=True):
    """Values: how many, their sum, and the sum of their squares."""

    count: int = 0
    sum: int = 0
    squares: int = 0

    def add(self, value: int) -> None:
        """Count one value."""
        self.count += 1
        self.sum += value
        self.squares += value * value

    def merge(self, other: "Moments") -> None:
        """Add the values of `other` to these."""
        self.count += other.count
        self.sum += other.sum
        self.squares += other.squares


class Variant(msgspec.Struct, array_like=True):
    """What the calls of a variant measured, and the scores of evaluations that name it. New fields go to the end.

    `errors` are 1 for a failed call and 0 for a good one, so their count is the number of calls. `tokens` are prompt
    and completion tokens. Calls without a time to first token, or without a price, have no value there.
    """

    errors: Moments = field(default_factory=Moments)
    latency_us: Moments = field(default_factory=Moments)
    ttft_us: Moments = field(default_factory=Moments)
    cost_pico: Moments = field(default_factory=Moments)
    tokens: Moments = field(default_factory=Moments)
    scores: dict[str, Moments] = {}

    def add(self, used: Usage, cost_pico: int | None) -> None:
        """Count one call. `cost_pico` is None when its price is not known."""
        self.errors.add(used.error_type is not None)
        self.latency_us.add(used.latency_us)
        self.tokens.add(used.prompt_tokens + used.completion_tokens)
        if used.ttft_us is not None:
            self.ttft_us.add(used.ttft_us)
        if cost_pico is not None:
            self.cost_pico.add(cost_pico)

    def add_score(self, name: str, score: float) -> None:
        """Count one evaluation."""
        self.scores.setdefault(name, Moments()).add(round(score * MILLION))

    def merge(self, other: "Variant") -> None:
        """Add the calls and evaluations of `other` to these."""
        for metric in METRICS.values():
            getattr(self, metric.field).merge(getattr(other, metric.field))
        for name, moments in other.scores.items():
            self.scores.setdefault(name, Moments()).merge(moments)

    def measures(self) -> Iterator[tuple[str, int, Moments]]:
        """The metrics that have values: name, digits and moments."""
        for name, metric in METRICS.items():
            moments: Moments = getattr(self, metric.field)
            if moments.count:
                yield name, metric.digits, moments
        for name, moments in self.scores.items():
            yield SCORE + name, SCORE_DIGITS, moments


encode_variant = msgspec.json.Encoder().encode
decode_variant = msgspec.json.Decoder(Variant).decode
