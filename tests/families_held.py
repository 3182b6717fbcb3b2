"""What Postgres has of all families, in the form in which `families_oracle` says what it must have."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import asyncpg
import msgspec
import orjson

from families_oracle import MILLION, Rows
from streamlens.moments import METRICS, SCORE_DIGITS
from streamlens.postgres.exact import exact_facets, exact_rows
from streamlens.postgres.rows import EPOCH, MetricRow
from streamlens.simulate.oracle import MINUTE_US


async def held(dsn: str) -> dict[str, Rows]:
    """All rows by table."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = {name: await connection.fetch(f"select * from {name}") for name in _READ}
        calls = await connection.fetch("select * from llm_calls where kept <> '{}'")
    finally:
        await connection.close()
    return {
        "llm_metrics": dict(_cells(await exact_rows(dsn))),
        "llm_facets": dict(_cells(await exact_facets(dsn))),
        "llm_calls": _calls(calls),
        **{name: dict(_READ[name](row) for row in rows) for name, rows in tables.items()},
    }


def _cells(rows: Iterable[MetricRow]) -> Iterable[tuple[tuple[Any, ...], Any]]:
    for row in rows:
        cell = {name: _with_texts(value) for name, value in msgspec.structs.asdict(row.cell).items()}
        del cell["cost_carried"]  # `exact_rows` has all of the cost in `cost_pico`
        yield (row.tenant_id, row.route, row.model, row.window_start_us // MINUTE_US), cell


def _with_texts(value: Any) -> Any:
    return {str(key): count for key, count in value.items()} if isinstance(value, Mapping) else value


def _evaluation(row: Any) -> tuple[tuple[Any, ...], Any]:
    return (row["tenant_id"], row["route"], row["model"], row["name"], _minute(row)), (
        row["evaluations"],
        row["scored"],
        *(_millionths(row[name]) for name in ("score_sum", "min_score", "max_score")),
        row["zero"],
        dict(zip(row["positive_index"], row["positive_count"], strict=True)),
        dict(zip(row["negative_index"], row["negative_count"], strict=True)),
        orjson.loads(row["labels"]),
    )


def _tally(row: Any) -> tuple[tuple[Any, ...], Any]:
    key = (row["tenant_id"], row["kind"], row["name"], row["detail"], _minute(row))
    return key, (row["count"], *(_millionths(row[name]) for name in ("sum", "min", "max")))


def _log(row: Any) -> tuple[tuple[Any, ...], Any]:
    return (row["log_id"], row["tenant_id"]), (row["class"], _us(row["at"]), orjson.loads(row["content"]))


def _variant(row: Any) -> tuple[tuple[Any, ...], Any]:
    found = json.loads(row["measures"], parse_float=Decimal)
    moments = {metric: _moments(metric, *each) for metric, each in found.items()}
    calls = {metric: moments.pop(metric, None) for metric in METRICS}
    key = (row["tenant_id"], row["experiment"], row["variant"], _minute(row))
    return key, {"calls": row["calls"], **calls, "scores": moments}


def _moments(metric: str, count: int, total: Decimal | int, squares: Decimal | int) -> tuple[int, ...]:
    digits = METRICS[metric].digits if metric in METRICS else SCORE_DIGITS
    wide = Context(prec=100)
    return count, int(wide.scaleb(Decimal(total), digits)), int(wide.scaleb(Decimal(squares), 2 * digits))


def _calls(rows: Iterable[Any]) -> Rows:
    found: Rows = {}
    for row in rows:
        key = (row["tenant_id"], row["request_id"])
        assert key not in found, f"{key} is kept twice"
        told = {name: value for name, value in row.items() if name not in _NOT_TOLD}
        cost, metadata = told.pop("estimated_cost_usd"), told.pop("metadata")
        found[key] = told | {
            "at_us": _us(told.pop("at")),
            "kept": sorted(told.pop("kept")),
            "cost_pico": None if cost is None else int(cost * 10**12),
            "has_user": told.pop("user_id_hash") is not None,
            "metadata": None if metadata is None else orjson.loads(metadata),
        }
    return found


_NOT_TOLD = ("id", "tenant_id", "request_id", "prompt", "response", "version", "updated_at")


def _visit(row: Any) -> tuple[tuple[Any, ...], Any]:
    key = (row["tenant_id"], row["kind"], row["visitor"], row["route"], (row["day"] - EPOCH.date()).days)
    cost = row["estimated_cost_usd"]
    return key, (
        _us(row["first_at"]),
        row["first_model"],
        row["minutes"],
        row["last_at"] and _us(row["last_at"]),
        *(row[name] for name in ("user_hash", "calls", "errors", "prompt_tokens", "completion_tokens")),
        None if cost is None else int(cost * 10**12),
        row["priced"],
        row["unpriced"],
    )


def _minute(row: Any) -> int:
    return _us(row["window_start"]) // MINUTE_US


def _us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _millionths(value: Decimal | None) -> int | None:
    return None if value is None else int(value * MILLION)


_READ = {
    "llm_evaluations": _evaluation,
    "llm_tallies": _tally,
    "app_logs": _log,
    "llm_experiments": _variant,
    "llm_visits": _visit,
}
