"""What is written to Postgres: absolute values with the version of the checkpoint that they come from."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from streamlens.cell import Cell
from streamlens.histogram import quantile, quantiles

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QS = (0.50, 0.95, 0.99)
_UNKNOWN = (None, None, None, None)


class MetricRow(msgspec.Struct, frozen=True, gc=False):
    """A window of one series, of `llm_metrics`. A higher `version` (generation, epoch) replaces a lower one."""

    tenant_id: str
    route: str
    model: str
    window_start_us: int
    window_us: int
    cell: Cell
    revision: int
    final: bool
    version: tuple[int, int]

    percentiles_ms: tuple[float | None, float | None, float | None, float | None] = _UNKNOWN
    """p50, p95, p99 of the latency, p95 of the time to first token: found once, for all sinks; None without values."""

    def __post_init__(self) -> None:
        cell = self.cell
        p50, p95, p99 = quantiles(_QS, cell.latency_zero, cell.latency, cell.latency_min_us, cell.latency_max_us)
        ttft = quantile(0.95, cell.ttft_zero, cell.ttft, cell.ttft_min_us, cell.ttft_max_us)
        msgspec.structs.force_setattr(self, "percentiles_ms", (_ms(p50), _ms(p95), _ms(p99), _ms(ttft)))


class FacetRow(MetricRow, frozen=True, gc=False):
    """A window of one facet's value, of `llm_facets`: its `route` is the facet, its `model` the value."""


class LedgerRow(msgspec.Struct, frozen=True, gc=False):
    """What became of the events of one tenant and minute, of `llm_ledger`."""

    tenant_id: str
    minute_us: int
    received: int
    aggregated: int
    pending: int
    orphaned: int
    duplicate: int
    late: int
    rejected: int
    version: tuple[int, int]

    @property
    def imbalance(self) -> int:
        """By how many events the row does not close; anything but 0 is a bug."""
        ended = self.aggregated + self.pending + self.orphaned + self.duplicate + self.late + self.rejected
        return self.received - ended


class SettledRow(msgspec.Struct, frozen=True, gc=False):
    """Up to where the rows of one partition of stage two are as they will stay, of `llm_settled`."""

    partition: int
    until_us: int
    """All its windows that begin before."""
    version: tuple[int, int]


METRIC_COLUMNS = """
    tenant_id route model window_start window_end requests errors error_types
    latency_sum_us latency_min_us latency_max_us latency_zero latency_index latency_count
    p50_latency_ms p95_latency_ms p99_latency_ms
    ttft_requests ttft_sum_us ttft_min_us ttft_max_us ttft_zero ttft_index ttft_count p95_ttft_ms
    prompt_tokens completion_tokens cached_tokens cache_write_tokens reasoning_tokens
    priced partly_priced unpriced reported price_versions estimated_cost_usd revision final version
"""
FACET_COLUMNS = METRIC_COLUMNS.replace("route model", "facet value")


def metric_record(row: MetricRow) -> tuple[Any, ...]:
    """The values of `METRIC_COLUMNS` or `FACET_COLUMNS`."""
    cell = row.cell
    latency, ttft = sorted(cell.latency), sorted(cell.ttft)
    p50, p95, p99, p95_ttft = row.percentiles_ms
    return (
        row.tenant_id,
        row.route,
        row.model,
        _minute(row.window_start_us),
        _minute(row.window_start_us + row.window_us),
        cell.calls,
        cell.errors,
        cell.error_types,
        cell.latency_sum_us,
        cell.latency_min_us,
        cell.latency_max_us,
        cell.latency_zero,
        latency,
        list(map(cell.latency.__getitem__, latency)),
        p50,
        p95,
        p99,
        cell.ttft_calls,
        cell.ttft_sum_us,
        cell.ttft_min_us,
        cell.ttft_max_us,
        cell.ttft_zero,
        ttft,
        list(map(cell.ttft.__getitem__, ttft)),
        p95_ttft,
        cell.prompt_tokens,
        cell.completion_tokens,
        cell.cached_tokens,
        cell.cache_write_tokens,
        cell.reasoning_tokens,
        cell.priced,
        cell.partly_priced,
        cell.unpriced,
        cell.reported,
        cell.price_versions,
        Decimal(cell.total_pico).scaleb(-12) if cell.priced else None,
        row.revision,
        row.final,
        row.version,
    )


LEDGER_COLUMNS = "tenant_id minute received aggregated pending orphaned duplicate late rejected version"


def ledger_record(row: LedgerRow) -> tuple[Any, ...]:
    """The values of `LEDGER_COLUMNS`."""
    return (
        row.tenant_id,
        _minute(row.minute_us),
        row.received,
        row.aggregated,
        row.pending,
        row.orphaned,
        row.duplicate,
        row.late,
        row.rejected,
        row.version,
    )


SETTLED_COLUMNS = "partition settled_until version"


def settled_record(row: SettledRow) -> tuple[Any, ...]:
    """The values of `SETTLED_COLUMNS`."""
    return (row.partition, time_of(row.until_us), row.version)


def time_of(us: int) -> datetime:
    """Microseconds since the epoch as a time in UTC."""
    return EPOCH + timedelta(microseconds=us)


_minute = lru_cache(1024)(time_of)


def _ms(us: float | None) -> float | None:
    return None if us is None else us / 1000
