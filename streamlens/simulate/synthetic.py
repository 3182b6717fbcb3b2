"""Invented traffic: waves of calls by several tenants, models and users, with failures, an experiment, and, if asked
for, anomalies."""

import math
from collections.abc import Iterator
from random import Random

import msgspec

from streamlens.simulate import mix
from streamlens.simulate.call import SimulatedCall

ERROR_SHARE = 0.02
ANOMALY_S = 30
"""An anomaly lasts for one such stretch."""
LONGEST_WAVE_S = 600

LONGEST_CALL_US = 30_000_000
"""So that a run ends soon after its last request."""


class Traffic(msgspec.Struct, frozen=True):
    """What to invent."""

    rate: float = 10.0
    """Calls per second, on average."""
    duration_s: float | None = 60.0
    """None: endless."""
    tenants: int = 3
    users: int = 100
    anomalies: float = 0.0
    """Share of the stretches of 30 s in which one tenant is slow, fails, or sends long prompts; 0 to 1."""
    seed: int = 1


class _Anomaly(msgspec.Struct, frozen=True):
    tenant_id: str
    slower: float = 1.0
    longer: int = 1
    errors: float = ERROR_SHARE


def calls(traffic: Traffic, now_us: int) -> Iterator[SimulatedCall]:
    """Calls from `now_us` on, in order of time; the same ones for the same arguments."""
    random = Random(traffic.seed)
    run = f"{now_us:x}-{traffic.seed}"
    wave_s = _wave_s(traffic.duration_s)
    number, elapsed_s = 0, 0.0
    stretch, anomaly = -1, None
    while True:
        strength = 1 + 0.5 * math.sin(2 * math.pi * elapsed_s / wave_s)
        elapsed_s += random.expovariate(traffic.rate * strength)
        if traffic.duration_s is not None and elapsed_s >= traffic.duration_s:
            return
        if int(elapsed_s // ANOMALY_S) != stretch:
            stretch = int(elapsed_s // ANOMALY_S)
            anomaly = _anomaly(traffic, stretch)
        yield _call(random, traffic, anomaly, f"{run}-{number}", now_us + int(elapsed_s * 1e6))
        number += 1


def _wave_s(duration_s: float | None) -> float:
    """The length of a wave. Whole waves fit into the duration, so that the average is the rate asked for."""
    if duration_s is None:
        return LONGEST_WAVE_S
    return duration_s / math.ceil(duration_s / LONGEST_WAVE_S)


def _anomaly(traffic: Traffic, stretch: int) -> _Anomaly | None:
    if not traffic.anomalies:
        return None
    random = Random(f"{traffic.seed}:{stretch}")
    if random.random() >= traffic.anomalies:
        return None
    tenant_id = mix.tenant(random.randrange(traffic.tenants))
    kinds = (_Anomaly(tenant_id, slower=5.0), _Anomaly(tenant_id, errors=0.4), _Anomaly(tenant_id, longer=6))
    return random.choice(kinds)


def _call(
    random: Random, traffic: Traffic, anomaly: _Anomaly | None, request_id: str, started_us: int
) -> SimulatedCall:
    caller = mix.draw_caller(random, traffic.tenants)
    user, session_id, routes = mix.draw_visitor(random, caller.tenant_id, traffic.users, started_us)
    caller = caller._replace(route=random.choice(routes))
    if anomaly is None or anomaly.tenant_id != caller.tenant_id:
        anomaly = _Anomaly(caller.tenant_id)
    prompt = min(int(random.lognormvariate(6.2, 0.9)) * anomaly.longer, 200_000)
    failed = random.random() < anomaly.errors * (mix.FRAGILE_TIMES if caller.route == mix.FRAGILE_ROUTE else 1)
    error_type, error = mix.draw_failure(random) if failed else (None, None)
    experiment = mix.RERANK[user % 2] if caller.route == mix.RERANKED_ROUTE else None
    is_reranked = experiment is mix.RERANK[1]
    if is_reranked:
        prompt = math.ceil(prompt * mix.RERANK_KEEPS)
    completion = 0 if failed else min(1 + int(random.lognormvariate(4.6, 0.8)), 4_000)
    cached, cache_write = mix.draw_cache(random, prompt)
    ttft_us = int(random.lognormvariate(-1.2, 0.5) * 1e6 * anomaly.slower) + mix.RERANK_US * is_reranked
    latency_us = ttft_us + int(completion * random.uniform(8_000, 20_000) * anomaly.slower)
    return SimulatedCall(
        request_id=request_id,
        tenant_id=caller.tenant_id,
        route=caller.route,
        model=caller.model,
        provider=caller.provider,
        started_us=started_us,
        latency_us=min(latency_us, LONGEST_CALL_US),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        reasoning_tokens=completion // 3 if random.random() < 0.1 else 0,
        ttft_us=None if failed else min(ttft_us, LONGEST_CALL_US),
        error=error,
        error_type=error_type,
        user_id_hash=f"user-{user}",
        session_id=session_id,
        experiment=experiment,
        tells_latency=random.random() < 0.9,
    )
