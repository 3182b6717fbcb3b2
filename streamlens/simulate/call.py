"""One LLM call as the simulator makes it, its two events as NDJSON lines, and many calls' events in time order."""

import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from streamlens.fields import Experiment

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SimulatedCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that begins at `started_us` (epoch) and is answered, or fails, `latency_us` later."""

    request_id: str
    tenant_id: str
    route: str
    model: str
    provider: str | None
    started_us: int
    latency_us: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Part of `prompt_tokens`, like `cache_write_tokens`."""
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of `completion_tokens`."""
    ttft_us: int | None = None
    error: str | None = None
    error_type: str | None = None
    user_id_hash: str | None = None
    session_id: str | None = None
    experiment: Experiment | None = None
    tells_latency: bool = True
    """False: the response leaves `latency_ms` out, so that it is the difference of the two timestamps."""

    def request(self) -> bytes:
        """The request event, one line of JSON without its end."""
        return _encode(
            _Request(
                request_id=self.request_id,
                tenant_id=self.tenant_id,
                route=self.route,
                model=self.model,
                timestamp=_rfc3339(self.started_us),
                prompt_tokens=self.prompt_tokens,
                provider=self.provider,
                user_id_hash=self.user_id_hash,
                session_id=self.session_id,
                experiment=self.experiment,
            )
        )

    def response(self) -> bytes:
        """The response event, one line of JSON without its end."""
        failed = self.error is not None or self.error_type is not None
        cached, cache_write = self.cached_tokens or None, self.cache_write_tokens or None
        usage: dict[str, int | None] = {"cached_tokens": cached, "cache_write_tokens": cache_write}
        if self.provider == "anthropic":  # its usage as it comes: the cache beside the input
            fresh = self.prompt_tokens - self.cached_tokens - self.cache_write_tokens
            usage = {"cache_read_input_tokens": cached, "cache_creation_input_tokens": cache_write}
            usage["prompt_tokens"] = fresh
        return _encode(
            _Response(
                request_id=self.request_id,
                timestamp=_rfc3339(self.started_us + self.latency_us),
                latency_ms=self.latency_us / 1000 if self.tells_latency else None,
                ttft_ms=None if self.ttft_us is None else self.ttft_us / 1000,
                completion_tokens=self.completion_tokens,
                **usage,
                reasoning_tokens=self.reasoning_tokens or None,
                finish_reason=None if failed else "stop",
                error=self.error,
                error_type=self.error_type,
            )
        )


class Line(NamedTuple):
    """An event to send: when it happens, whether it begins a call, and its line of NDJSON."""

    at_us: int
    begins: bool
    raw: bytes


def timeline(calls: Iterable[SimulatedCall]) -> Iterator[Line]:
    """The events of calls that are sorted by `started_us`, each at its time. Lazy, so the calls may be endless."""
    open_calls: list[tuple[int, int, SimulatedCall]] = []
    for number, call in enumerate(calls):
        while open_calls and open_calls[0][0] <= call.started_us:
            ended_us, _, ended = heapq.heappop(open_calls)
            yield Line(ended_us, False, ended.response())
        yield Line(call.started_us, True, call.request())
        heapq.heappush(open_calls, (call.started_us + call.latency_us, number, call))
    while open_calls:
        ended_us, _, ended = heapq.heappop(open_calls)
        yield Line(ended_us, False, ended.response())


class _Request(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type", tag="request"):
    request_id: str
    tenant_id: str
    route: str
    model: str
    timestamp: str
    prompt_tokens: int
    provider: str | None = None
    user_id_hash: str | None = None
    session_id: str | None = None
    experiment: Experiment | None = None


class _Response(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="type", tag="response"):
    request_id: str
    timestamp: str
    completion_tokens: int
    latency_ms: float | None = None
    ttft_ms: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    error_type: str | None = None


_encode = msgspec.json.Encoder().encode


def _rfc3339(us: int) -> str:
    # Integer arithmetic: a float of epoch seconds does not hold microseconds exactly.
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds")
