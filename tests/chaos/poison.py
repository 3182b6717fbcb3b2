"""Records that no decoder takes: broken, of another shape, with a value that is not allowed, or of tomorrow."""

import json
from random import Random
from typing import Any

import msgspec

from chaos import observations
from chaos.details import whole
from streamlens.simulate.call import SimulatedCall
from streamlens.topics import INPUTS, SOURCES

KEY = b"poison"
"""Each of them has it in its key."""
_DAY_US = 86_400_000_000
_SHAPES = (b"", b"{", b"\xff\xfe", b"null", b'{"request_id":"x"}', b"[" * 5_000)
_NOT_ALLOWED: dict[str, tuple[dict[str, Any], ...]] = {
    "evaluation": ({"score": None, "label": None}, {"score": "good"}, {"score": 1e10}, {"name": ""}),
    "log": ({"level": "LOUD"}, {"message": None}, {"message": "x" * 9_000}, {"service": "a\0b"}),
    "metric": ({"value": "much"}, {"value": 1e16}, {"tags": {"host": {}}}, {"tags": {"host": "\0"}}),
}


def draw(random: Random, topic: str, call: SimulatedCall) -> bytes:
    """A bad record for a topic, made of a call of now."""
    if random.random() < 0.5:
        return random.choice(_SHAPES)
    kind = SOURCES[topic]
    tomorrow = msgspec.structs.replace(call, started_us=call.started_us + _DAY_US)
    if topic in INPUTS:
        request, response = tomorrow.request(), tomorrow.response()
        both = whole(json.loads(request), json.loads(response), tomorrow.latency_us)
        return random.choice((request, response, json.dumps(both).encode()))
    if random.random() < 0.3:
        return json.dumps(observations.draw(random, kind, tomorrow)).encode()
    return json.dumps(observations.draw(random, kind, call) | random.choice(_NOT_ALLOWED[kind])).encode()
