"""The exact rows that StreamLens must show for the events it acknowledged, computed by brute force over their JSON.

Independent of the pipeline: it shares only `histogram.index` and the prices. It keeps every line, so it is for runs
whose events fit in memory (about 500 bytes a call).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from streamlens.histogram import index
from streamlens.pricing import Prices, cost_pico

Row = dict[str, Any]
Ledger = dict[str, int]

KEY = ("tenant_id", "route", "model", "window_start_us")
MINUTE_US = 60_000_000
ERROR_TYPES = (
    "timeout",
    "rate_limit",
    "server_error",
    "client_error",
    "content_filter",
    "cancelled",
    "model_error",
    "other",
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Call(NamedTuple):
    request: Mapping[str, Any]
    response: Mapping[str, Any]


class Oracle:
    """Collects the lines that the server acknowledged, each once however often it was sent."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._lines: list[bytes] = []

    def acknowledged(self, lines: Iterable[bytes]) -> None:
        """Take NDJSON lines of request and response events that were answered as accepted."""
        self._lines.extend(lines)

    def rows(self) -> list[Row]:
        """One row per tenant, route, model and minute of the request, sorted; fields as in the aggregated cell."""
        calls, _ = self._pair()
        groups: dict[tuple[str, str, str, int], list[_Call]] = {}
        for call in calls:
            asked = call.request
            minute = _us(asked["timestamp"]) // MINUTE_US * MINUTE_US
            groups.setdefault((asked["tenant_id"], asked["route"], asked["model"], minute), []).append(call)
        return [dict(zip(KEY, key, strict=True)) | _sums(groups[key], self._prices) for key in sorted(groups)]

    def ledger(self, *, retried: int = 0, rejected: int = 0, unknown: int = 0) -> Ledger:
        """Totals in events. Each retried event may be in the server's ledger once more, as a duplicate; an unknown one
        (never answered) may be in it or not."""
        calls, halves = self._pair()
        return {
            "sent": len(self._lines),
            "aggregated": 2 * len(calls),
            "unpaired": halves,
            "retried": retried,
            "rejected": rejected,
            "unknown": unknown,
        }

    def write(self, path: Path, ledger: Ledger) -> None:
        """Write {"ledger": …, "rows": […]} with one row per line."""
        lines = ",\n".join(json.dumps(row, sort_keys=True) for row in self.rows())
        path.write_text(f'{{"ledger": {json.dumps(ledger)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")

    def _pair(self) -> tuple[list[_Call], int]:
        requests: dict[str, Mapping[str, Any]] = {}
        responses: dict[str, Mapping[str, Any]] = {}
        for line in self._lines:
            event = json.loads(line)
            half = requests if event["type"] == "request" else responses
            half.setdefault(event["request_id"], event)
        both = requests.keys() & responses.keys()
        calls = [_Call(request, responses[name]) for name, request in requests.items() if name in both]
        return calls, len(requests) + len(responses) - 2 * len(both)


def read(path: Path) -> tuple[list[Row], Ledger]:
    """The rows and the ledger of a file that `Oracle.write` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["rows"], content["ledger"]


def compare(expected: Sequence[Row], actual: Sequence[Row]) -> list[str]:
    """The differences, one sentence each; [] when every row is there with equal fields and there is no other row.

    Fields of `actual` that `expected` does not have (revision, version, …) are not compared.
    """
    differences = []
    wanted = {_key(row): row for row in expected}
    found: dict[tuple[Any, ...], Row] = {}
    for row in actual:
        key = _key(row)
        if key in found:
            differences.append(f"{_name(key)}: there twice")
        elif key not in wanted:
            differences.append(f"{_name(key)}: not expected")
        found[key] = row
    for key, row in sorted(wanted.items()):
        if key not in found:
            differences.append(f"{_name(key)}: missing")
            continue
        for field, value in sorted(row.items()):
            if field not in found[key]:
                differences.append(f"{_name(key)}: {field} is missing")
            elif _plain(found[key][field]) != _plain(value):
                differences.append(f"{_name(key)}: {field} is {found[key][field]}, expected {value}")
    return differences


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[field] for field in KEY)


def _name(key: tuple[Any, ...]) -> str:
    *series, start_us = key
    return f"{' '.join(series)} {(_EPOCH + timedelta(microseconds=start_us)):%Y-%m-%dT%H:%MZ}"


def _plain(value: Any) -> Any:
    # JSON has no integer keys: buckets come back as strings.
    return {str(key): count for key, count in value.items()} if isinstance(value, Mapping) else value


def _sums(calls: Sequence[_Call], prices: Prices) -> Row:
    latencies = [_latency_us(call) for call in calls]
    ttfts = [round(call.response["ttft_ms"] * 1000) for call in calls if "ttft_ms" in call.response]
    failures = [failure for call in calls if (failure := _error_type(call.response))]
    costs = [_cost(call, prices) for call in calls]
    known = [cost for cost in costs if cost is not None]
    return {
        "calls": len(calls),
        "errors": len(failures),
        "error_types": {name: failures.count(name) for name in sorted(set(failures))},
        **_distribution("latency", latencies),
        "ttft_calls": len(ttfts),
        **_distribution("ttft", ttfts),
        "prompt_tokens": sum(call.request.get("prompt_tokens", 0) for call in calls),
        "completion_tokens": sum(call.response.get("completion_tokens", 0) for call in calls),
        "cached_tokens": sum(call.response.get("cached_tokens", 0) for call in calls),
        "cache_write_tokens": sum(call.response.get("cache_write_tokens", 0) for call in calls),
        "reasoning_tokens": sum(call.response.get("reasoning_tokens", 0) for call in calls),
        "cost_pico": sum(known),
        "priced": len(known),
        "unpriced": len(costs) - len(known),
    }


def _distribution(name: str, values: Sequence[int]) -> Row:
    buckets = [index(value) for value in values if value > 0]
    return {
        f"{name}_sum_us": sum(values),
        f"{name}_min_us": min(values, default=0),
        f"{name}_max_us": max(values, default=0),
        name: {str(bucket): buckets.count(bucket) for bucket in sorted(set(buckets))},
        f"{name}_zero": values.count(0),
    }


def _latency_us(call: _Call) -> int:
    latency_ms: float | None = call.response.get("latency_ms")
    if latency_ms is not None:
        return round(latency_ms * 1000)
    return max(0, _us(call.response["timestamp"]) - _us(call.request["timestamp"]))


def _error_type(response: Mapping[str, Any]) -> str | None:
    given = response.get("error_type")
    if given:
        return given if given in ERROR_TYPES else "other"
    return "other" if response.get("error") or response.get("finish_reason") == "error" else None


def _cost(call: _Call, prices: Prices) -> int | None:
    rates = prices.rates(call.request.get("provider"), call.request["model"])
    if rates is None:
        return None
    return cost_pico(
        rates,
        call.request.get("prompt_tokens", 0),
        call.response.get("completion_tokens", 0),
        call.response.get("cached_tokens", 0),
        call.response.get("cache_write_tokens", 0),
    )


def _us(timestamp: str) -> int:
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)
