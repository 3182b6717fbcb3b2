"""Rows to write in tests."""

from typing import Any

from streamlens.cell import Cell
from streamlens.histogram import index
from streamlens.postgres.rows import LedgerRow, MetricRow

MINUTE = 60_000_000
NOON = 1_795_003_200_000_000
"""2026-11-18 12:00:00 UTC in microseconds."""


def cell(latencies_us: list[int], ttfts_us: list[int] | None = None, **sums: Any) -> Cell:
    """The cell of calls with these latencies and times to first token; other fields as given."""
    made = Cell(calls=len(latencies_us), latency_sum_us=sum(latencies_us), latency={}, ttft={}, error_types={})
    made.latency_min_us, made.latency_max_us = min(latencies_us, default=0), max(latencies_us, default=0)
    made.ttft_calls, made.ttft_sum_us = len(ttfts_us or []), sum(ttfts_us or [])
    made.ttft_min_us, made.ttft_max_us = min(ttfts_us or [0]), max(ttfts_us or [0])
    for values, buckets in ((latencies_us, made.latency), (ttfts_us or [], made.ttft)):
        for value in values:
            if value:
                buckets[index(value)] = buckets.get(index(value), 0) + 1
    made.latency_zero, made.ttft_zero = latencies_us.count(0), (ttfts_us or []).count(0)
    for name, value in sums.items():
        setattr(made, name, value)
    return made


def metric(content: Cell | None = None, version: tuple[int, int] = (1, 1), **fields: Any) -> MetricRow:
    """A row of tenant `acme`, route `/chat`, model `gpt-5`, at noon; other fields as given."""
    row = {
        "tenant_id": "acme",
        "route": "/chat",
        "model": "gpt-5",
        "window_start_us": NOON,
        "window_us": MINUTE,
        "revision": 1,
        "final": False,
    }
    return MetricRow(cell=content or cell([1000]), version=version, **{**row, **fields})


def booked(version: tuple[int, int] = (1, 1), **fields: Any) -> LedgerRow:
    """A ledger row of tenant `acme` at noon with zeros; other fields as given."""
    row = {"tenant_id": "acme", "minute_us": NOON}
    zeros = dict.fromkeys(("received", "aggregated", "pending", "orphaned", "duplicate", "late", "rejected"), 0)
    return LedgerRow(version=version, **{**row, **zeros, **fields})
