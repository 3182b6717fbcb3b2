"""The tables that rows are written to, by type of row: name, key, columns, and how a row becomes their values."""

from collections.abc import Callable
from typing import Any, NamedTuple

from streamlens.postgres.calls import CALL_COLUMNS, CallRow, call_record
from streamlens.postgres.experiments import EXPERIMENT_COLUMNS, ExperimentRow, experiment_record
from streamlens.postgres.observed import (
    EVALUATION_COLUMNS,
    KEPT_COLUMNS,
    TALLY_COLUMNS,
    EvaluationRow,
    KeptRow,
    TallyRow,
    evaluation_record,
    kept_record,
    tally_record,
)
from streamlens.postgres.rows import (
    FACET_COLUMNS,
    LEDGER_COLUMNS,
    METRIC_COLUMNS,
    SETTLED_COLUMNS,
    FacetRow,
    LedgerRow,
    MetricRow,
    SettledRow,
    ledger_record,
    metric_record,
    settled_record,
)
from streamlens.postgres.visited import VISIT_COLUMNS, VisitRow, visit_record

Row = (
    MetricRow
    | FacetRow
    | LedgerRow
    | EvaluationRow
    | TallyRow
    | KeptRow
    | ExperimentRow
    | CallRow
    | VisitRow
    | SettledRow
)


class Table(NamedTuple):
    """`key` is what a row replaces, if its version is higher; `columns` are separated by spaces."""

    name: str
    key: str
    columns: str
    record: Callable[[Any], tuple[Any, ...]]


TABLES: dict[type[Row], Table] = {
    MetricRow: Table("llm_metrics", "tenant_id, route, model, window_start", METRIC_COLUMNS, metric_record),
    FacetRow: Table("llm_facets", "tenant_id, facet, value, window_start", FACET_COLUMNS, metric_record),
    LedgerRow: Table("llm_ledger", "tenant_id, minute", LEDGER_COLUMNS, ledger_record),
    EvaluationRow: Table("llm_evaluations", "id", EVALUATION_COLUMNS, evaluation_record),
    TallyRow: Table("llm_tallies", "id", TALLY_COLUMNS, tally_record),
    KeptRow: Table("app_logs", "id", KEPT_COLUMNS, kept_record),
    ExperimentRow: Table(
        "llm_experiments", "experiment, tenant_id, variant, window_start", EXPERIMENT_COLUMNS, experiment_record
    ),
    CallRow: Table("llm_calls", "id", CALL_COLUMNS, call_record),
    VisitRow: Table("llm_visits", "id", VISIT_COLUMNS, visit_record),
    SettledRow: Table("llm_settled", "partition", SETTLED_COLUMNS, settled_record),
}
"""In the order in which they are written: the same for all writers, so that none of them wait in a ring."""
