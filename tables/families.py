"""The kinds of rows that go through both stages, each with the prefix of its keys and the row that Postgres gets.

A family is counted by a table of stage one. What a partition has counted is a type with `merge`, so stage two treats
all families alike: it keeps each partition's newest contribution and adds them up. A new one needs its table, a line
here, and a line in `streamlens/postgres/tables.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from streamlens.cell import decode_cell
from streamlens.checkpoint.frames import Version
from streamlens.facets import experiment_of
from streamlens.keptcall import decode_call
from streamlens.moments import decode_variant
from streamlens.postgres.calls import CallRow
from streamlens.postgres.experiments import ExperimentRow
from streamlens.postgres.observed import EvaluationRow, KeptRow, TallyRow
from streamlens.postgres.rows import FacetRow, LedgerRow, MetricRow
from streamlens.postgres.tables import Row
from streamlens.postgres.visited import VisitRow
from streamlens.scores import decode_scores
from streamlens.tally import decode_tally
from streamlens.visit import decode_visit
from tables import evaluations, experiments, faceted, kept, ledger, partials, recent, tallies, visits
from tables.caps import OTHER
from tables.kept import decode_kept
from tables.ledger import decode_entry
from tables.windowed import CACHED_ROWS, names_of
from tables.windows import Merged


class Family(NamedTuple):
    """`row` makes what is written of (key, merged, start and length of the window in microseconds, version)."""

    prefix: bytes
    row: Callable[[bytes, Merged, int, int, Version], Row]
    has_final: bool = False
    """Whether its rows say that they are final, and so are published once more when their window closes."""
    cached_rows: int = CACHED_ROWS


def _metric(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> MetricRow:
    tenant_id, route, model = names_of(key)
    cell = merged.total(decode_cell)
    return MetricRow(tenant_id, route, model, start_us, window_us, cell, merged.revision, merged.final, version)


def _facet(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> FacetRow:
    tenant_id, facet, value = names_of(key)
    cell = merged.total(decode_cell)
    return FacetRow(tenant_id, facet, value, start_us, window_us, cell, merged.revision, merged.final, version)


def _ledger(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> LedgerRow:
    counts: dict[str, Any] = msgspec.structs.asdict(merged.total(decode_entry))
    return LedgerRow(tenant_id=ledger.tenant_of(key), minute_us=start_us, version=version, **counts)


def _evaluation(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> EvaluationRow:
    tenant_id, route, model, name = names_of(key)
    scores, revision, final = merged.total(decode_scores), merged.revision, merged.final
    return EvaluationRow(key, tenant_id, route, model, name, start_us, window_us, scores, revision, final, version)


def _tally(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> TallyRow:
    tenant_id, kind, name, detail = names_of(key)
    tally = merged.total(decode_tally)
    return TallyRow(key, tenant_id, kind, name, detail, start_us, window_us, tally, version)


def _kept(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> KeptRow:
    tenant_id, kind, record_id = names_of(key)
    record = merged.total(decode_kept)
    return KeptRow(key, tenant_id, kind, record_id, record.at_us, record.content, version)


def _experiment(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> ExperimentRow:
    tenant_id, value = names_of(key)
    named = experiment_of(value)
    experiment, variant = (named.name, named.variant) if named else (OTHER, OTHER)
    return ExperimentRow(tenant_id, experiment, variant, start_us, window_us, merged.total(decode_variant), version)


def _call(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> CallRow:
    return CallRow(key, names_of(key)[0], start_us, merged.total(decode_call), version)


def _visit(key: bytes, merged: Merged, start_us: int, window_us: int, version: Version) -> VisitRow:
    tenant_id, kind, visitor, route = names_of(key)
    return VisitRow(key, tenant_id, kind, visitor, route, merged.total(decode_visit), version)


FAMILIES = (
    Family(partials.PREFIX, _metric, has_final=True),
    Family(faceted.PREFIX, _facet, has_final=True),
    Family(ledger.PREFIX, _ledger),
    Family(evaluations.PREFIX, _evaluation, has_final=True),
    Family(tallies.PREFIX, _tally),
    Family(kept.PREFIX, _kept),
    Family(experiments.PREFIX, _experiment),
    Family(recent.PREFIX, _call, cached_rows=500),  # their texts may be of 32 KiB
    Family(visits.PREFIX, _visit),
)
PREFIXES = b"".join(family.prefix for family in FAMILIES)
