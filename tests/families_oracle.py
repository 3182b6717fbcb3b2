"""What the families of rows must hold for given events, worked out by brute force; and what Postgres holds of them."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import asyncpg
import orjson

from pipeline import MINUTE, START
from streamlens.histogram import index

Rows = dict[tuple[Any, ...], Any]
Sent = tuple[str, dict[str, Any], bytes, int]
"""Kind, event, its bytes, its partition; in the order in which they were appended."""
MILLION = 1_000_000


def expected(sent: Iterable[Sent], kept: int) -> dict[str, Rows]:
    """All rows by table, of traffic of which nothing is late and no name too many."""
    rows: dict[str, Rows] = {"llm_facets": {}, "llm_evaluations": {}, "llm_tallies": {}, "app_logs": {}}
    halves: dict[str, dict[str, dict[str, Any]]] = {"request": {}, "response": {}}
    seen: set[Any] = set()
    room: dict[Any, int] = {}
    for kind, event, raw, partition in sent:
        if kind in halves:
            halves[kind].setdefault(event["request_id"], event)
            continue
        minute = event["timestamp"] * 1000 // MINUTE
        identity: Any = raw
        if kind == "call":
            identity = event["request_id"]
        if kind == "evaluation":
            identity = (event["tenant_id"], event["request_id"], event["name"], event.get("evaluator"))
        if (kind, identity) in seen:
            continue
        seen.add((kind, identity))
        if kind == "call":
            _facets(rows["llm_facets"], event, event)
            _warnings(rows["llm_tallies"], event, event)
        elif kind == "evaluation":
            key = (
                event["tenant_id"],
                event.get("route", "unknown"),
                event.get("model", "unknown"),
                event["name"],
                minute,
            )
            rows["llm_evaluations"].setdefault(key, []).append(event)
        elif kind == "metric":
            detail = ",".join(f"{name}={value}" for name, value in sorted(event["tags"].items()))
            key = (event["tenant_id"], "metric", event["name"], detail, minute)
            rows["llm_tallies"].setdefault(key, []).append(round(event["value"] * MILLION))
        else:
            rows["llm_tallies"].setdefault(
                (event["tenant_id"], "log", event["service"], event["level"], minute), []
            ).append(0)
            loud = event["level"] in ("WARNING", "ERROR", "CRITICAL")
            place = (event["tenant_id"], loud, minute, partition)
            room[place] = room.get(place, 0) + 1
            if room[place] <= kept:
                said = {name: event[name] for name in ("level", "service", "message")}
                rows["app_logs"][(blake2b(raw, digest_size=16).hexdigest(), event["tenant_id"])] = said
    for request_id, request in halves["request"].items():
        if response := halves["response"].get(request_id):
            _facets(rows["llm_facets"], request, response)
            _warnings(rows["llm_tallies"], request, response)
    return {
        "llm_facets": {key: _calls(calls) for key, calls in rows["llm_facets"].items()},
        "llm_evaluations": {key: _scores(found) for key, found in rows["llm_evaluations"].items()},
        "llm_tallies": {key: (len(v), sum(v), min(v), max(v)) for key, v in rows["llm_tallies"].items()},
        "app_logs": rows["app_logs"],
    }


def _facets(rows: Rows, request: Mapping[str, Any], response: Mapping[str, Any]) -> None:
    experiment = request.get("experiment")
    given = {
        "provider": request.get("provider"),
        "experiment": experiment and experiment["name"],
        "variant": experiment and experiment["name"].replace("/", "\\/") + "/" + experiment["variant"],
        "prompt_version": request.get("prompt_version"),
        "region": request.get("region"),
        "country": request.get("metadata", {}).get("country"),
        "client_app": request.get("client", {}).get("app"),
        "error_type": response.get("error_type"),
        "finish_reason": response.get("finish_reason"),
        "sender": request.get("sender") or response.get("sender"),
    }
    for facet, value in given.items():
        if value:
            minute = request["timestamp"] * 1000 // MINUTE
            rows.setdefault((request["tenant_id"], facet, value, minute), []).append((request, response))


def _warnings(rows: Rows, request: dict[str, Any], response: dict[str, Any]) -> None:
    """What this traffic may lack; it breaks no other rule."""
    broken = [] if "provider" in request else ["provider_missing"]
    if "error_type" not in response:
        broken += [
            f"{name}_missing" for name in ("prompt_tokens", "completion_tokens") if name not in request | response
        ]
    if response["timestamp"] < request["timestamp"]:
        broken.append("response_before_request")
    sender = response.get("sender") or request.get("sender") or "unknown"
    for rule in broken:
        minute = request["timestamp"] * 1000 // MINUTE
        rows.setdefault((request["tenant_id"], "warning", rule, sender, minute), []).append(0)


def _calls(calls: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    latencies = [response["latency_ms"] * 1000 for _, response in calls]
    failed = [response["error_type"] for _, response in calls if "error_type" in response]
    return {
        "requests": len(calls),
        "errors": len(failed),
        "error_types": {name: failed.count(name) for name in set(failed)},
        "latency": (sum(latencies), min(latencies), max(latencies), _buckets(latencies)),
        "prompt_tokens": sum(request.get("prompt_tokens", 0) for request, _ in calls),
        "completion_tokens": sum(response.get("completion_tokens", 0) for _, response in calls),
    }


def _scores(found: list[dict[str, Any]]) -> tuple[Any, ...]:
    values = [round(event["score"] * MILLION) for event in found if "score" in event]
    labels = [event["label"] for event in found if "label" in event]
    return (
        len(found),
        len(values),
        sum(values),
        min(values, default=None),
        max(values, default=None),
        values.count(0),
        _buckets(value for value in values if value > 0),
        _buckets(-value for value in values if value < 0),
        {label: labels.count(label) for label in set(labels)},
    )


def _buckets(values: Iterable[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in values:
        found[index(value)] = found.get(index(value), 0) + 1
    return found


async def held(dsn: str) -> dict[str, Rows]:
    """The same, as Postgres has it."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = {name: await connection.fetch(f"select * from {name}") for name in _READ}
    finally:
        await connection.close()
    return {name: dict(_READ[name](row) for row in rows) for name, rows in tables.items()}


def _facet(row: Any) -> tuple[tuple[Any, ...], Any]:
    latency = dict(zip(row["latency_index"], row["latency_count"], strict=True))
    return (row["tenant_id"], row["facet"], row["value"], _minute(row)), {
        **{name: row[name] for name in ("requests", "errors", "prompt_tokens", "completion_tokens")},
        "error_types": orjson.loads(row["error_types"]),
        "latency": (row["latency_sum_us"], row["latency_min_us"], row["latency_max_us"], latency),
    }


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
    return (row["log_id"], row["tenant_id"]), orjson.loads(row["content"])


def _minute(row: Any) -> int:
    return round(row["window_start"].timestamp()) * MILLION // MINUTE


def _millionths(value: Decimal | None) -> int | None:
    return None if value is None else int(value * MILLION)


_READ = {"llm_facets": _facet, "llm_evaluations": _evaluation, "llm_tallies": _tally, "app_logs": _log}
FIRST_MINUTE = START // MINUTE
