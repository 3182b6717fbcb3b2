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
from streamlens.pricing import Prices
from streamlens.rates import cost_pico

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


class Call(NamedTuple):
    """Both halves as parsed JSON; of a whole call each half is the call."""

    request: Mapping[str, Any]
    response: Mapping[str, Any]


class Used(NamedTuple):
    """What a call used, each token once and no time to the first token after the last."""

    latency_us: int
    ttft_us: int | None
    prompt: int
    completion: int
    cached: int
    written: int
    reasoning: int


class _Cost(NamedTuple):
    pico: int
    partly: bool
    version: str | None
    """None: the event told its cost."""


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
        groups: dict[tuple[str, str, str, int], list[Call]] = {}
        for call in calls:
            asked = call.request
            minute = us(asked["timestamp"]) // MINUTE_US * MINUTE_US
            groups.setdefault((asked["tenant_id"], asked["route"], asked["model"], minute), []).append(call)
        return [dict(zip(KEY, key, strict=True)) | sums(groups[key], self._prices) for key in sorted(groups)]

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

    def _pair(self) -> tuple[list[Call], int]:
        requests: dict[str, Mapping[str, Any]] = {}
        responses: dict[str, Mapping[str, Any]] = {}
        for line in self._lines:
            event = json.loads(line)
            half = requests if event["type"] == "request" else responses
            half.setdefault(event["request_id"], event)
        both = requests.keys() & responses.keys()
        calls = [Call(request, responses[name]) for name, request in requests.items() if name in both]
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


def sums(calls: Sequence[Call], prices: Prices) -> Row:
    """What a row of these calls must hold; fields as in the aggregated cell, buckets of histograms as texts."""
    used = [usage(call) for call in calls]
    ttfts = [each.ttft_us for each in used if each.ttft_us is not None]
    failures = [failure for call in calls if (failure := error_type(call.response))]
    costs = [_cost(call, each, prices) for call, each in zip(calls, used, strict=True)]
    known = [cost for cost in costs if cost is not None]
    versions = [cost.version for cost in known if cost.version is not None]
    return {
        "calls": len(calls),
        "errors": len(failures),
        "error_types": {name: failures.count(name) for name in sorted(set(failures))},
        **_distribution("latency", [each.latency_us for each in used]),
        "ttft_calls": len(ttfts),
        **_distribution("ttft", ttfts),
        "prompt_tokens": sum(each.prompt for each in used),
        "completion_tokens": sum(each.completion for each in used),
        "cached_tokens": sum(each.cached for each in used),
        "cache_write_tokens": sum(each.written for each in used),
        "reasoning_tokens": sum(each.reasoning for each in used),
        "cost_pico": sum(cost.pico for cost in known),
        "priced": len(known),
        "partly_priced": sum(cost.partly for cost in known),
        "unpriced": len(costs) - len(known),
        "reported": len(known) - len(versions),
        "price_versions": {name: versions.count(name) for name in sorted(set(versions))},
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


def usage(call: Call) -> Used:
    """What a call used, repaired by the rules of `docs/api.md`."""
    asked, answered = call
    latency_us = max(0, us(answered["timestamp"]) - us(asked["timestamp"]))
    if answered.get("latency_ms") is not None:
        latency_us = round(answered["latency_ms"] * 1000)
    ttft_us = None if answered.get("ttft_ms") is None else round(answered["ttft_ms"] * 1000)
    if ttft_us is not None and ttft_us > latency_us:
        ttft_us = None
    prompt = next((half["prompt_tokens"] for half in (answered, asked) if half.get("prompt_tokens") is not None), 0)
    names = "cached_tokens", "cache_write_tokens"
    anthropic = all(answered.get(name) is None for name in names)
    if anthropic:
        names = "cache_read_input_tokens", "cache_creation_input_tokens"
    cached, written = (answered.get(name) or 0 for name in names)
    if anthropic or cached + written > prompt:
        prompt += cached + written
    completion, reasoning = (answered.get(name) or 0 for name in ("completion_tokens", "reasoning_tokens"))
    if reasoning > completion:
        completion += reasoning
    return Used(latency_us, ttft_us, prompt, completion, cached, written, reasoning)


def error_type(response: Mapping[str, Any]) -> str | None:
    """The class of a failed call, None for a good one."""
    given = response.get("error_type")
    if given:
        return given if given in ERROR_TYPES else "other"
    return "other" if response.get("error") or response.get("finish_reason") == "error" else None


def _cost(call: Call, used: Used, prices: Prices) -> _Cost | None:
    asked, answered = call
    if answered.get("cost_usd") is not None:
        return _Cost(round(answered["cost_usd"] * 1e12), False, None)
    at = _EPOCH + timedelta(microseconds=us(asked["timestamp"]))
    rates = prices.rates(asked.get("provider"), answered.get("model") or asked["model"], asked["tenant_id"], at)
    if rates is None:
        return None
    kinds = (used.cached, used.written, used.completion)
    partly = any(tokens and unstated for tokens, unstated in zip(kinds, rates.unstated, strict=True))
    pico = cost_pico(rates, used.prompt, used.completion, used.cached, used.written, used.reasoning)
    return _Cost(pico, partly, rates.version)


def us(timestamp: str | int) -> int:
    """Epoch microseconds of a time as events carry it: RFC 3339, or integer epoch milliseconds."""
    if isinstance(timestamp, int):
        return timestamp * 1000
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)
