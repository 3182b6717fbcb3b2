"""What is written to Postgres: absolute values with the version of the checkpoint that they come from."""

import msgspec

from streamlens.cell import Cell


class MetricRow(msgspec.Struct, frozen=True):
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


class LedgerRow(msgspec.Struct, frozen=True):
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
