"""What the API must say about an oracle's rows: each question that has numbers, beside sums over those rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from pytest import approx

from process_server import Server
from streamlens.histogram import quantiles
from streamlens.simulate.oracle import us

Row = dict[str, Any]

HOUR_US = 3_600_000_000
_QS = (0.50, 0.95, 0.99)


def differences(server: Server, rows: list[Row]) -> list[str]:
    """The questions whose answers are not what the rows say, with both; [] when all are."""
    starts = [row["window_start_us"] for row in rows]
    span = {"from": min(starts) // 1000, "to": max(starts) // 1000 + 60_000, "limit": 10_000}
    found = []
    for path, asked, told, expected in _questions(rows, max(row["tenant_id"] for row in rows)):
        given = {name: value for name, value in (span | asked).items() if value is not None}
        status, answer = server.get(f"{path}?{urlencode(given)}")
        said = told(answer) if status == 200 else answer
        if said != expected:
            found.append(f"{path} {asked}: {said}, expected {expected}")
    return found


Question = tuple[str, Row, Callable[[Any], Any], Any]


def _questions(rows: list[Row], tenant: str) -> Iterator[Question]:
    """(path, parameters, what to look at in the answer, what that must be)."""
    groups = [("route", "model"), ("route",), ("model",), ()]
    for chosen, of in ((rows, {}), ([row for row in rows if row["tenant_id"] == tenant], {"tenant_id": tenant})):
        for step, step_us in (("all", None), ("1h", HOUR_US), ("5m", 300_000_000), ("1m", 60_000_000)):
            for names in groups:
                key = _key(("tenant_id", *names), step_us)
                by = {"group_by": ",".join(names) or "none", "step": step}
                yield "/v1/metrics", of | by, _metrics(names, step_us), _merged(chosen, key)
        whole = _sums(chosen)
        yield "/api/v1/analytics/dashboard", of | {"limit": None}, _said, whole
        yield (
            "/api/v1/analytics/requests/timeseries",
            of | {"limit": None, "step": "1h"},
            lambda answer: sum(point["requests"] for point in answer["points"]),
            whole[0],
        )
        types = Counter[str]()
        for row in chosen:
            types.update(row["error_types"])
        yield (
            "/api/v1/analytics/errors",
            of | {"limit": None},
            lambda answer: {each["error_type"]: each["count"] for each in answer["errors"]},
            dict(types),
        )
        yield (
            "/v1/errors/top",
            of,
            lambda answer: (answer["total"], sum(each["count"] for each in answer["errors"])),
            (types.total(), types.total()),
        )
        yield (
            "/api/v1/analytics/providers",
            of | {"limit": None},
            lambda answer: sum(each["requests"] for each in answer["providers"]),
            whole[0],
        )
        yield (
            "/v1/metrics/minute",
            of,
            lambda answer: sum(each["tokens_in"] for each in answer["metrics"]),
            sum(row["prompt_tokens"] for row in chosen),
        )


def _key(names: Iterable[str], step_us: int | None) -> Callable[[Row], tuple[Any, ...]]:
    return lambda row: (
        *(row[name] for name in names),
        0 if step_us is None else row["window_start_us"] // step_us,
    )


def _merged(rows: list[Row], key: Callable[[Row], tuple[Any, ...]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {place: _sums(group) for place, group in groups.items()}


def _sums(rows: list[Row]) -> tuple[Any, ...]:
    """Requests, errors, tokens, cost in dollars, and the percentiles of the merged histograms in milliseconds."""
    buckets = Counter[int]()
    for row in rows:
        buckets.update({int(bucket): count for bucket, count in row["latency"].items()})
    low, high = min(row["latency_min_us"] for row in rows), max(row["latency_max_us"] for row in rows)
    found = quantiles(_QS, sum(row["latency_zero"] for row in rows), buckets, low, high)
    priced = sum(row["priced"] for row in rows)
    return (
        *(sum(row[name] for row in rows) for name in ("calls", "errors", "prompt_tokens", "completion_tokens")),
        approx(sum(row["cost_pico"] for row in rows) / 1e12, rel=1e-12) if priced else None,
        *(approx((value or 0) / 1000, rel=1e-12) for value in found),
    )


def _said(row: Row) -> tuple[Any, ...]:
    names = ("requests", "errors", "prompt_tokens", "completion_tokens", "estimated_cost_usd")
    return tuple(row[name] for name in (*names, "p50_latency_ms", "p95_latency_ms", "p99_latency_ms"))


def _metrics(names: tuple[str, ...], step_us: int | None) -> Callable[[Any], Any]:
    def told(answer: Any) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        found = {}
        for row in answer["metrics"]:
            place = 0 if step_us is None else us(row["window_start"]) // step_us
            found[row["tenant_id"], *(row[name] for name in names), place] = _said(row)
        return found

    return told
