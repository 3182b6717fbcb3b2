"""The two halves of a call, as the join keeps them: a request's and a response's, and what they say together.

Halves are small immutable values; both their in-memory and their stored form (MessagePack arrays) live here.
"""

from sys import intern

import msgspec

from streamlens.details import Answered, Asked, Details
from streamlens.events import Call, Request, Response, error_class
from streamlens.facets import Facets

_MS = 1000


class RequestHalf(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="q"):
    """What a request contributes. `ts_us` is its event time, which decides the window."""

    ts_us: int
    tenant_id: str
    route: str
    model: str
    provider: str | None
    prompt_tokens: int | None
    sender: str | None = None
    facets: tuple[str, ...] = ()
    user_id: str | None = None
    session_id: str | None = None
    asked: Asked | None = None

    @classmethod
    def of(cls, event: Request | Call, ts_us: int, facets: Facets, details: Details | None = None) -> "RequestHalf":
        return cls(
            ts_us,
            event.tenant_id,
            event.route,
            event.model,
            event.provider,
            event.prompt_tokens,
            None if event.sender is None else intern(event.sender),  # one text for all halves that wait
            facets.of_request(event),
            event.user_id_hash or None,
            event.session_id or None,
            None if details is None else details.of_request(event),
        )


class ResponseHalf(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="r"):
    """What a response contributes. `latency_us` None: the difference of the two timestamps."""

    ts_us: int
    tenant_id: str | None
    model: str | None
    latency_us: int | None
    ttft_us: int | None
    completion_tokens: int | None
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    error_type: str | None
    cost_pico: int | None
    prompt_tokens: int | None = None
    """None: the request's."""
    apart_tokens: int = 0
    """Cached and cache-write tokens that the prompt tokens, of whichever half, do not include."""
    total_tokens: int | None = None
    sender: str | None = None
    facets: tuple[str, ...] = ()
    answered: Answered | None = None

    @classmethod
    def of(cls, event: Response | Call, ts_us: int, facets: Facets, details: Details | None = None) -> "ResponseHalf":
        cached, written, apart = event.cached_tokens or 0, event.cache_write_tokens or 0, 0
        if event.cached_tokens is None and event.cache_write_tokens is None:
            read, created = event.cache_read_input_tokens, event.cache_creation_input_tokens
            if read is not None or created is not None:  # Anthropic's names
                cached, written = read or 0, created or 0
                apart = cached + written
        return cls(
            ts_us,
            event.tenant_id,
            event.model,
            None if event.latency_ms is None else round(event.latency_ms * _MS),
            None if event.ttft_ms is None else round(event.ttft_ms * _MS),
            event.completion_tokens,
            cached,
            written,
            event.reasoning_tokens or 0,
            error_class(event.error, event.error_type, event.finish_reason),
            None if event.cost_usd is None else round(event.cost_usd * 1e12),
            event.prompt_tokens,
            apart,
            event.total_tokens,
            None if event.sender is None else intern(event.sender),
            facets.of_response(event),
            None if details is None else details.of_response(event),
        )

    def latency_after(self, request_ts_us: int) -> int:
        """The call's latency in microseconds: as given, else the time between the halves (0 when clocks disagree)."""
        if self.latency_us is not None:
            return self.latency_us
        return max(0, self.ts_us - request_ts_us)


def scoped(request_id: str, tenant_id: str) -> str:
    """The id under which a half waits that only its tenant's other half can join. No id of a client has a NUL."""
    return f"{request_id}\0{tenant_id}"


Half = RequestHalf | ResponseHalf
encode_half = msgspec.msgpack.Encoder().encode
decode_half = msgspec.msgpack.Decoder(Half).decode
