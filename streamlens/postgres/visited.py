"""Rows of users and sessions, as they are written to Postgres."""

from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from streamlens.postgres.rows import time_of
from streamlens.visit import SESSION, Visit


class VisitRow(msgspec.Struct, frozen=True, gc=False):
    """A visitor's day on one route, of `llm_visits`. `key` is the row's in the state, `kind` one of `visit.KINDS`."""

    key: bytes
    tenant_id: str
    kind: str
    visitor: str
    route: str
    visit: Visit
    version: tuple[int, int]


VISIT_COLUMNS = """
    id tenant_id kind visitor route first_at first_model minutes last_at user_hash
    calls errors prompt_tokens completion_tokens estimated_cost_usd priced unpriced version
"""


def visit_record(row: VisitRow) -> tuple[Any, ...]:
    """The values of `VISIT_COLUMNS`."""
    visit = row.visit
    return (
        blake2b(row.key, digest_size=16).digest(),  # names together may be too long for an index
        row.tenant_id,
        row.kind,
        row.visitor,
        row.route,
        time_of(visit.first_us),
        visit.first_model,
        sorted(visit.minutes),
        *(_used(visit) if row.kind == SESSION else _UNKNOWN),
        row.version,
    )


_UNKNOWN = (None,) * 9


def _used(visit: Visit) -> tuple[Any, ...]:
    return (
        time_of(visit.last_us),
        visit.user or None,
        visit.calls,
        visit.errors,
        visit.prompt_tokens,
        visit.completion_tokens,
        Decimal(visit.cost_pico).scaleb(-12) if visit.priced else None,
        visit.priced,
        visit.unpriced,
    )
