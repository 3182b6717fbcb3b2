"""Calls to measure with: requests and responses as JSON, and the sums that the rows must show for them.

Tokens are drawn from the distribution of the Azure LLM inference trace 2023 (conversation service; Patel et al.,
"Splitwise", ISCA 2024), or from a file with its columns; a latency follows from the tokens generated.
"""

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from streamlens.simulate.trace import read

MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.0-flash", "in-house-7b")
ROUTES = 100
"""At most so many a tenant."""
MINUTE_US = 60_000_000

_PROMPT = (2, 207, 387, 403, 703, 1020, 1071, 1130, 1315, 2735, 14_050)
_COMPLETION = (7, 54, 77, 91, 103, 129, 177, 384, 400, 424, 1000)
"""Deciles of the trace."""
_DRAWN = 8192


class MadeCall(NamedTuple):
    """One call: its halves as they are sent, when it ends, and what it adds to its row."""

    key: bytes
    request: bytes
    response: bytes
    ends_us: int


class Traffic:
    """Draws calls; the same seed draws the same ones. `sent` has the sums of all of them."""

    def __init__(self, series: int, seed: int | str, trace: Path | None = None, *, haste: int = 1) -> None:
        """`haste` divides the latencies: traffic that is as it stays within seconds."""
        self.sent = Sums(series)
        self._random = Random(seed)
        self._series = series
        self._haste = haste
        self._names = Names(series)
        self._tokens = _from_trace(trace) if trace else [self._draw() for _ in range(_DRAWN)]

    def call(self, at_us: int) -> MadeCall:
        """A call that begins at `at_us`, of a series drawn evenly."""
        random = self._random
        request_id = f"{random.getrandbits(128):032x}"
        number = int(random.random() * self._series)
        prompt, completion = self._tokens[int(random.random() * len(self._tokens))]
        latency_ms, at_ms = (200 + 25 * completion) // self._haste, at_us // 1000
        tenant, route, model = self._names[number]
        self.sent.add(at_ms * 1000 // MINUTE_US, number, prompt, completion, latency_ms * 1000)
        return MadeCall(
            request_id.encode(),
            f'{{"request_id":"{request_id}","tenant_id":"{tenant}","route":"{route}","model":"{model}",'
            f'"timestamp":{at_ms},"prompt_tokens":{prompt}}}'.encode(),
            f'{{"request_id":"{request_id}","timestamp":{at_ms + latency_ms},"latency_ms":{latency_ms},'
            f'"completion_tokens":{completion},"finish_reason":"stop"}}'.encode(),
            at_us + latency_ms * 1000,
        )

    def _draw(self) -> tuple[int, int]:
        return _quantile(_PROMPT, self._random.random()), _quantile(_COMPLETION, self._random.random())


class Names:
    """(tenant, route, model) of each series, and back."""

    def __init__(self, series: int) -> None:
        self._tenants = max(min(10, series), -(-series // ROUTES))
        self._names = [
            (f"tenant-{n % self._tenants}", f"route-{n // self._tenants}", MODELS[n // self._tenants % len(MODELS)])
            for n in range(series)
        ]

    def __getitem__(self, number: int) -> tuple[str, str, str]:
        return self._names[number]

    def number(self, tenant: str, route: str) -> int:
        """Raises `ValueError` for names that are none of these."""
        return int(route.removeprefix("route-")) * self._tenants + int(tenant.removeprefix("tenant-"))


class Sums:
    """Calls, tokens and latency of each minute and series: what was sent, less what the rows say."""

    def __init__(self, series: int) -> None:
        self._series = series
        self._names = Names(series)
        self._minutes: dict[int, tuple[array[int], ...]] = {}
        self.calls = 0

    def add(self, minute: int, number: int, prompt: int, completion: int, latency_us: int) -> None:
        self.calls += 1
        if minute not in self._minutes:
            self._minutes[minute] = tuple(array("q", bytes(8 * self._series)) for _ in range(4))
        calls, prompts, completions, latencies = self._minutes[minute]
        calls[number] += 1
        prompts[number] += prompt
        completions[number] += completion
        latencies[number] += latency_us

    def wrong(self, rows: list[Mapping[str, Any]]) -> list[str]:
        """The first differences of the rows of `llm_metrics` from what was sent, in words; empty when there is none."""
        found: list[str] = []
        seen: dict[int, bytearray] = {minute: bytearray(self._series) for minute in self._minutes}
        for row in rows:
            minute = int(row["window_start"].timestamp()) // 60
            number = self._names.number(row["tenant_id"], row["route"])
            sent = tuple(sums[number] for sums in self._minutes.get(minute, ()))
            read_ = tuple(row[name] for name in ("requests", "prompt_tokens", "completion_tokens", "latency_sum_us"))
            if sent != read_ or row["model"] != self._names[number][2]:
                found.append(f"{self._names[number]}, minute {minute}: sent {sent}, the row has {read_}")
            else:
                seen[minute][number] = 1
        for minute, (calls, *_) in self._minutes.items():
            missing = sum(1 for number, count in enumerate(calls) if count and not seen[minute][number])
            if missing:
                found.append(f"minute {minute}: {missing} of its rows are missing or wrong")
        return found[:10]


def _from_trace(path: Path) -> list[tuple[int, int]]:
    return [(row.prompt_tokens, row.completion_tokens) for row in read(path)]


def _quantile(deciles: tuple[int, ...], at: float) -> int:
    """The value at `at` in [0, 1), linear between deciles."""
    place = at * (len(deciles) - 1)
    low = min(bisect_right(range(len(deciles)), place) - 1, len(deciles) - 2)
    return int(deciles[low] + (deciles[low + 1] - deciles[low]) * (place - low))
