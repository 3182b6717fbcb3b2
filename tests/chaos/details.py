"""What the suite's calls tell beyond the simulator's: facets, and usage that breaks the rules of quality."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any

Half = dict[str, Any]
_FACETS_SHARE = 0.5
_FLAWS_SHARE = 0.1
_ASKED: dict[str, tuple[Any, ...]] = {
    "experiment": ({"name": "tone", "variant": "A"}, {"name": "tone", "variant": "B"}, {"name": "a/b", "variant": "B"}),
    "prompt_version": ("v1", "v2"),
    "model_version": ("2026-08",),
    "region": ("eu", "us"),
    "metadata": ({"country": "DE"}, {"country": "日本", "tier": 2}, {"tier": 1}),
    "client": ({"app": "ios"}, {"app": "web", "os": "linux"}),
    "sender": ("sdk/1", "sdk/2"),
}
_ANSWERED: dict[str, tuple[Any, ...]] = {"finish_reason": ("length", "tool_calls", "error"), "sender": ("proxy/3",)}


def tell_more(random: Random, request: Half, response: Half) -> None:
    """Add to the halves of a call, as many calls of different applications would have it."""
    if random.random() < _FACETS_SHARE:
        _add(random, request, _ASKED, 0.5)
        _add(random, response, _ANSWERED, 0.2)
    if random.random() < _FLAWS_SHARE:
        for flaw in random.sample(_FLAWS, random.choice((1, 1, 2))):
            flaw(request, response)


def whole(request: Half, response: Half, latency_us: int) -> Half:
    """Both halves as one event of `llm.calls`."""
    told = {"latency_ms": latency_us / 1000} | request | response
    return told | {"type": "call", "timestamp": request["timestamp"]}


def _add(random: Random, half: Half, fields: dict[str, tuple[Any, ...]], share: float) -> None:
    half |= {name: random.choice(values) for name, values in fields.items() if random.random() < share}


def _cache_apart(request: Half, response: Half) -> None:
    response["cached_tokens"] = request.get("prompt_tokens", 0) + 7


def _reasoning_apart(request: Half, response: Half) -> None:
    response["reasoning_tokens"] = response.get("completion_tokens", 0) + 7


def _ttft_after_end(request: Half, response: Half) -> None:
    response["ttft_ms"] = 3_000_000


def _slow(request: Half, response: Half) -> None:
    response["latency_ms"] = 150_000.5


def _ended_before_it_began(request: Half, response: Half) -> None:
    response["timestamp"] = (datetime.fromisoformat(request["timestamp"]) - timedelta(seconds=1)).isoformat()


def _without_prompt(request: Half, response: Half) -> None:
    request.pop("prompt_tokens", None)


def _without_completion(request: Half, response: Half) -> None:
    response.pop("completion_tokens", None)


def _total(request: Half, response: Half) -> None:
    """Right, unless something else has to be repaired."""
    response["total_tokens"] = request.get("prompt_tokens", 0) + response.get("completion_tokens", 0)


def _billed(request: Half, response: Half) -> None:
    response["cost_usd"] = 0.000_123


_FLAWS: tuple[Callable[[Half, Half], None], ...] = (
    _cache_apart,
    _reasoning_apart,
    _ttft_after_end,
    _slow,
    _ended_before_it_began,
    _without_prompt,
    _without_completion,
    _total,
    _billed,
)
