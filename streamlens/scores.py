"""The sums of evaluations that share a window, a series and a name. Scores are integers, in millionths.

All fields are integers, so the result does not depend on the order in which evaluations and sums are added. They may
outgrow 64 bits, which is why the stored form is JSON.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import ceil

import msgspec

from streamlens.histogram import index, representative

MAX_LABELS = 50
"""Of one row and partition; further ones count as `OTHER_LABEL`."""
OTHER_LABEL = "__other__"
MILLION = 1_000_000


class Scores(msgspec.Struct, array_like=True):
    """Counts and sums. Without scores `low` and `high` are 0. New fields go to the end.

    `positive` and `negative` are sparse histograms of the scores' sizes, bucket to count; zeros are counted apart.
    """

    count: int = 0
    scored: int = 0
    sum: int = 0
    low: int = 0
    high: int = 0
    zero: int = 0
    positive: dict[int, int] = {}
    negative: dict[int, int] = {}
    labels: dict[str, int] = {}

    def add(self, score: float | None, label: str | None) -> None:
        """Count one evaluation."""
        self.count += 1
        if label is not None:
            known = label in self.labels or len(self.labels) < MAX_LABELS
            label = label if known else OTHER_LABEL
            self.labels[label] = self.labels.get(label, 0) + 1
        if score is None:
            return
        value = round(score * MILLION)
        self.low = min(self.low, value) if self.scored else value
        self.high = max(self.high, value) if self.scored else value
        self.scored += 1
        self.sum += value
        if value == 0:
            self.zero += 1
        else:
            side = self.positive if value > 0 else self.negative
            bucket = index(abs(value))
            side[bucket] = side.get(bucket, 0) + 1

    def merge(self, other: "Scores") -> None:
        """Add the evaluations of `other` to these."""
        if other.scored:
            self.low = min(self.low, other.low) if self.scored else other.low
            self.high = max(self.high, other.high) if self.scored else other.high
        self.count += other.count
        self.scored += other.scored
        self.sum += other.sum
        self.zero += other.zero
        for mine, theirs in ((self.positive, other.positive), (self.negative, other.negative)):
            for bucket, count in theirs.items():
                mine[bucket] = mine.get(bucket, 0) + count
        for label, count in other.labels.items():
            self.labels[label] = self.labels.get(label, 0) + count


encode_scores = msgspec.json.Encoder().encode
decode_scores = msgspec.json.Decoder(Scores).decode


def quantiles(
    qs: Sequence[float], negative: Mapping[int, int], zero: int, positive: Mapping[int, int], low: float, high: float
) -> list[float | None]:
    """The quantiles `qs` by nearest rank, in millionths, clamped to [low, high]; None without scores."""
    ascending = [
        *((-representative(bucket), count) for bucket, count in sorted(negative.items(), reverse=True)),
        (0.0, zero),
        *((representative(bucket), count) for bucket, count in sorted(positive.items())),
    ]
    upto = list(accumulate(count for _, count in ascending))
    if not upto[-1]:
        return [None] * len(qs)
    ranks = (max(1, ceil(q * upto[-1])) for q in qs)
    return [min(max(ascending[bisect_left(upto, rank)][0], low), high) for rank in ranks]
