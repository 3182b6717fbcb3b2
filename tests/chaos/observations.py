"""Evaluations, lines of logs and measurements, as applications send them beside the suite's calls.

Each says whose call it comes with: an evaluation and a line of a log by a field of theirs, a measurement by one that
nobody knows, which makes its bytes its own.
"""

import json
from hashlib import blake2b
from random import Random
from typing import Any

from streamlens.log import Record
from streamlens.simulate.call import SimulatedCall

_LEVELS = ("DEBUG", "info", "INFO", "INFO", "INFO", "WARNING", "error", "CRITICAL")
_SCORES = (0, 1, 0.25, -0.5, -3.3, 1e9)


def draw(random: Random, kind: str, call: SimulatedCall) -> dict[str, Any]:
    """An event of a kind of `topics.OBSERVATIONS`, at the time of a call."""
    base = {"tenant_id": call.tenant_id, "timestamp": call.started_us // 1000, "request_id": call.request_id}
    return base | _OF_KIND[kind](random, call)


def again(random: Random, evaluation: dict[str, Any]) -> dict[str, Any]:
    """The same evaluation as its evaluator might send it once more, somewhat later and with another result."""
    return evaluation | {"timestamp": evaluation["timestamp"] + 500, "score": random.choice(_SCORES)}


def record(kind: str, event: dict[str, Any]) -> Record:
    """Under the key that HTTP would give it."""
    raw = json.dumps(event).encode()
    key: str = event["request_id"] if kind == "evaluation" else blake2b(raw, digest_size=16).hexdigest()
    return Record(key.encode(), raw)


def _evaluation(random: Random, call: SimulatedCall) -> dict[str, Any]:
    told: dict[str, Any] = {"name": random.choice(("truth", "tone")), "evaluator": random.choice(("judge", "people"))}
    said = random.random()
    if said < 0.7:
        told["score"] = random.choice(_SCORES) if random.random() < 0.3 else random.uniform(-1, 1)
    if said > 0.5:
        told["label"] = random.choice(("good", "bad", "schlecht"))
    if random.random() < 0.5:
        told["experiment"] = {"name": random.choice(("tone", "a/b")), "variant": random.choice("AB")}
    return told | ({"route": call.route, "model": call.model} if random.random() < 0.5 else {})


def _log(random: Random, call: SimulatedCall) -> dict[str, Any]:
    told: dict[str, Any] = {"level": random.choice(_LEVELS), "service": random.choice(("api", "worker"))}
    told["message"] = f"„{call.route}“ took {call.latency_us} µs"
    return told | ({"attributes": {"user": call.user_id_hash, "n": 3}} if random.random() < 0.5 else {})


def _metric(random: Random, call: SimulatedCall) -> dict[str, Any]:
    told: dict[str, Any] = {"name": random.choice(("cpu", "queue"))}
    told["value"] = random.choice((0, -1e15, 1e15)) if random.random() < 0.1 else random.uniform(-100, 100)
    told["tags"] = {"host": random.choice(("a", "b=c,d"))} | ({"gpu": 0} if random.random() < 0.5 else {})
    return told | ({"unit": "%"} if random.random() < 0.5 else {})


_OF_KIND = {"evaluation": _evaluation, "log": _log, "metric": _metric}
