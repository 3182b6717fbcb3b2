"""The fields that a join of requests with responses needs, for the baselines that decode with msgspec."""

import msgspec


class RequestHalf(msgspec.Struct, gc=False):
    """A request, as far as the join is concerned."""

    request_id: str
    tenant_id: str
    route: str
    model: str
    timestamp: int
    prompt_tokens: int = 0


class ResponseHalf(msgspec.Struct, gc=False):
    """A response, likewise."""

    request_id: str
    timestamp: int
    latency_ms: float = 0
    completion_tokens: int = 0
