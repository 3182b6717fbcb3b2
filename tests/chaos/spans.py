"""A call as spans of OpenTelemetry tell of it: the application's, and the proxy's in other names and another encoding.

Both are made the record that HTTP and gRPC would write, by the same code. They tell the same of one response, so
whichever comes first counts, and the other is a duplicate.
"""

from collections.abc import Iterator
from typing import Any

from otlp_messages import encoded, span, traces
from streamlens.otlp.messages import JSON, PROTOBUF, TRACES, decode
from streamlens.simulate.call import SimulatedCall

_NEWER = {
    "gen_ai.provider.name": "provider",
    "gen_ai.usage.input_tokens": "prompt_tokens",
    "gen_ai.usage.output_tokens": "completion_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
}
_OLDER = {
    "gen_ai.system": "provider",
    "gen_ai.usage.prompt_tokens": "prompt_tokens",
    "gen_ai.usage.completion_tokens": "completion_tokens",
    "gen_ai.usage.cache_read_input_tokens": "cached_tokens",
}


def values(call: SimulatedCall) -> Iterator[bytes]:
    """The call as an event, out of each of its two spans."""
    for number, (names, form) in enumerate(((_NEWER, JSON), (_OLDER, PROTOBUF)), 1):
        body = encoded(TRACES, form, traces(_span(number, names, call), resource={"service.name": call.route}))
        ((_, event),) = TRACES.read(decode(TRACES, form, body), None, 0)
        assert isinstance(event, bytes)
        yield b'{"type":"call",' + event[1:]  # for a cluster that is reached by our own routes


def _span(number: int, names: dict[str, str], call: SimulatedCall) -> dict[str, Any]:
    said: dict[str, Any] = dict.fromkeys(_NEWER) | {name: getattr(call, field) for name, field in names.items()}
    said |= {
        "gen_ai.request.model": call.model,
        "gen_ai.response.id": call.request_id,
        "tenant.id": call.tenant_id,
        "user.id": call.user_id_hash,
        "session.id": call.session_id,
        "error.type": call.error_type or (call.error and "other"),
    }
    start_ns = call.started_us // 1000 * 1_000_000
    times = {"startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + call.latency_us * 1000)}
    return span(number, said, **times)
