"""Which calls must be kept whole and what of them, found by sorting all calls of each tenant, minute and partition."""

from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

from streamlens.pricing import Prices
from streamlens.simulate.oracle import MINUTE_US, Call, error_type, sums, us, usage
from tables import recent

_CLASSES = (
    "timeout",
    "rate_limit",
    "server_error",
    "client_error",
    "content_filter",
    "cancelled",
    "model_error",
    "other",
)


def kept_calls(calls: Iterable[tuple[int, Call]], prices: Prices) -> dict[tuple[Any, ...], dict[str, Any]]:
    """By tenant and id, of calls with their partitions."""
    groups: dict[Any, list[Call]] = {}
    for partition, call in calls:
        place = (partition, call.request["tenant_id"], us(call.request["timestamp"]) // MINUTE_US)
        groups.setdefault(place, []).append(call)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in groups.values():
        for why, chosen in _chosen(group):
            for call in chosen:
                asked = call.request
                row = found.setdefault((asked["tenant_id"], asked["request_id"]), _row(call, prices))
                row["kept"] = sorted({*row["kept"], why})
    return found


def _chosen(group: list[Call]) -> Iterable[tuple[str, list[Call]]]:
    yield "slow", sorted(group, key=lambda call: (-usage(call).latency_us, _id(call)))[: recent.SLOWEST]
    yield "sample", sorted(group, key=lambda call: (_hash(call), _id(call)))[: recent.SAMPLED]
    for name in _CLASSES:
        failed = [call for call in group if error_type(call.response) == name]
        yield "error", sorted(failed, key=lambda call: (us(call.request["timestamp"]), _id(call)))[: recent.ERRORS]


def _id(call: Call) -> str:
    request_id: str = call.request["request_id"]
    return request_id


def _hash(call: Call) -> int:
    return crc32((call.request.get("session_id") or _id(call)).encode())


def _row(call: Call, prices: Prices) -> dict[str, Any]:
    asked, answered = call
    used, summed = usage(call), sums([call], prices)
    experiment: Mapping[str, str] = asked.get("experiment") or {}
    told = answered.get("error_type")
    return {
        "at_us": us(asked["timestamp"]),
        "kept": [],
        "route": asked["route"],
        "model": asked["model"],
        "provider": asked.get("provider"),
        "latency_us": used.latency_us,
        "ttft_us": used.ttft_us,
        "prompt_tokens": used.prompt,
        "completion_tokens": used.completion,
        "cached_tokens": used.cached,
        "cache_write_tokens": used.written,
        "reasoning_tokens": used.reasoning,
        "cost_pico": None if summed["unpriced"] else summed["cost_pico"],
        "error_type": error_type(answered),
        "error_type_raw": told if told and told not in _CLASSES else None,
        "error": answered.get("error") or None,
        "finish_reason": answered.get("finish_reason"),
        "has_user": "user_id_hash" in asked,
        "session_id": asked.get("session_id"),
        "experiment": experiment.get("name"),
        "variant": experiment.get("variant"),
        "prompt_version": asked.get("prompt_version"),
        "model_version": asked.get("model_version"),
        "region": asked.get("region"),
        "client_app": asked.get("client", {}).get("app"),
        "client_os": asked.get("client", {}).get("os"),
        "stream": asked.get("stream"),
        "metadata": asked.get("metadata"),
    }
