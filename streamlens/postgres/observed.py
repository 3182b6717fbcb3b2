"""Rows of what is no call, as they are written to Postgres: evaluations, tallies and records that are kept whole."""

from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec
import orjson

from streamlens.postgres.rows import time_of
from streamlens.scores import Scores
from streamlens.tally import Tally


class EvaluationRow(msgspec.Struct, frozen=True, gc=False):
    """The evaluations of one name and series in a window, of `llm_evaluations`. `key` is the row's in the state."""

    key: bytes
    tenant_id: str
    route: str
    model: str
    name: str
    window_start_us: int
    window_us: int
    scores: Scores
    revision: int
    final: bool
    version: tuple[int, int]


class TallyRow(msgspec.Struct, frozen=True, gc=False):
    """A count of one window, of `llm_tallies`."""

    key: bytes
    tenant_id: str
    kind: str
    name: str
    detail: str
    window_start_us: int
    window_us: int
    tally: Tally
    version: tuple[int, int]


class KeptRow(msgspec.Struct, frozen=True, gc=False):
    """A record, of `app_logs`. `content` is JSON; `kind` is its class."""

    key: bytes
    tenant_id: str
    kind: str
    record_id: str
    at_us: int
    content: bytes
    version: tuple[int, int]


EVALUATION_COLUMNS = """
    id tenant_id route model name window_start window_end evaluations scored score_sum min_score max_score
    zero positive_index positive_count negative_index negative_count labels revision final version
"""


def evaluation_record(row: EvaluationRow) -> tuple[Any, ...]:
    """The values of `EVALUATION_COLUMNS`."""
    scores = row.scores
    positive, negative = sorted(scores.positive.items()), sorted(scores.negative.items())
    return (
        row_id(row.key),
        row.tenant_id,
        row.route,
        row.model,
        row.name,
        time_of(row.window_start_us),
        time_of(row.window_start_us + row.window_us),
        scores.count,
        scores.scored,
        _whole(scores.sum),
        _whole(scores.low) if scores.scored else None,
        _whole(scores.high) if scores.scored else None,
        scores.zero,
        [bucket for bucket, _ in positive],
        [count for _, count in positive],
        [bucket for bucket, _ in negative],
        [count for _, count in negative],
        scores.labels,
        row.revision,
        row.final,
        row.version,
    )


TALLY_COLUMNS = "id tenant_id kind name detail window_start window_end count sum min max version"


def tally_record(row: TallyRow) -> tuple[Any, ...]:
    """The values of `TALLY_COLUMNS`."""
    tally = row.tally
    return (
        row_id(row.key),
        row.tenant_id,
        row.kind,
        row.name,
        row.detail,
        time_of(row.window_start_us),
        time_of(row.window_start_us + row.window_us),
        tally.count,
        _whole(tally.sum),
        _whole(tally.low),
        _whole(tally.high),
        row.version,
    )


KEPT_COLUMNS = "id log_id tenant_id class at content version"


def kept_record(row: KeptRow) -> tuple[Any, ...]:
    """The values of `KEPT_COLUMNS`."""
    content = orjson.Fragment(row.content)
    return row_id(row.key), row.record_id, row.tenant_id, row.kind, time_of(row.at_us), content, row.version


def row_id(key: bytes) -> bytes:
    """Stands for the names of a row, which together may be longer than what PostgreSQL takes into an index."""
    return blake2b(key, digest_size=16).digest()


def _whole(millionths: int) -> Decimal:
    return Decimal(f"{millionths}e-6")  # exact, however many digits
