"""A tenant that sends ten times as much as all others together: what those send is seen about as soon as before."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

import pytest

from process_server import Server, at_last, until
from streamlens.settings import Settings

OTHERS = ("calm-0", "calm-1", "calm-2")
CALLS_PER_S = 100
"""Of each of the others."""
TIMES = 10
PROBES = 5
"""Of each of the others, one after the other."""
TICK_S = 0.1
INTERVAL_S = Settings().checkpoint_interval_s
_numbers = count()


@pytest.fixture
def server(scratch: Path, empty_dsn: str) -> Iterator[Server]:
    with Server(scratch / "noisy", dsn=empty_dsn) as server:
        yield server.start()


def call(tenant_id: str, route: str) -> dict[str, Any]:
    names = {"type": "call", "request_id": f"r-{next(_numbers)}", "tenant_id": tenant_id, "route": route}
    return {**names, "model": "gpt-4o-mini", "timestamp": time.time_ns() // 1_000_000, "latency_ms": 5}


@contextmanager
def sending(server: Server, tenant_id: str, calls_per_s: int) -> Iterator[list[int]]:
    """A tenant sends at this rate, a body each 100 ms, until the block ends; the calls that each answer accepted."""
    accepted: list[int] = []
    ended = Event()

    def send() -> None:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            due += TICK_S
            status, answer = server.post(
                "/v1/llm/events", [call(tenant_id, "chat") for _ in range(round(calls_per_s * TICK_S))]
            )
            assert status == 202, answer
            accepted.append(answer["accepted"])

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(send)
        try:
            yield accepted
        finally:
            ended.set()
    done.result()


def visible_s(server: Server, tenant_id: str) -> list[float]:
    """Post calls, each of a route of its own; the seconds until each is in a row."""
    found = []
    for _ in range(PROBES):
        probe = call(tenant_id, f"probe-{next(_numbers)}")
        asked = f"/v1/metrics?tenant_id={tenant_id}&route={probe['route']}"
        began = time.monotonic()
        assert server.post("/v1/llm/call", probe)[0] == 202
        until(lambda asked=asked: server.get(asked)[1].get("count") == 1, "the probe in a row")
        found.append(time.monotonic() - began)
    return found


def test_the_others_see_their_calls_about_as_soon_as_without_it(server: Server, record_property: Any) -> None:
    with ExitStack() as traffic, ThreadPoolExecutor(len(OTHERS)) as threads:

        def typical_s() -> float:
            return median(each for found in threads.map(lambda name: visible_s(server, name), OTHERS) for each in found)

        sent = {name: traffic.enter_context(sending(server, name, CALLS_PER_S)) for name in OTHERS}
        until(lambda: all(sent.values()), "all others send")
        alone_s = typical_s()
        before = calls_of_others(sent)
        sent["noisy"] = traffic.enter_context(sending(server, "noisy", TIMES * CALLS_PER_S * len(OTHERS)))
        until(lambda: len(sent["noisy"]) > 2 / TICK_S, "the noise has lasted for two seconds")
        beside_s = typical_s()
    record_property("alone_s", round(alone_s, 2))
    record_property("beside_s", round(beside_s, 2))
    assert sum(sent["noisy"]) > TIMES / 2 * (calls_of_others(sent) - before), "it was noisy"
    assert beside_s <= 2 * alone_s + INTERVAL_S

    probes = dict.fromkeys(OTHERS, 2 * PROBES)
    expected = {name: sum(accepted) + probes.get(name, 0) for name, accepted in sent.items()}
    assert at_last(lambda: aggregated(server), expected) == expected


def calls_of_others(sent: Mapping[str, list[int]]) -> int:
    return sum(sum(sent[name]) for name in OTHERS)


def aggregated(server: Server) -> dict[str, int]:
    """Calls that the ledger says are counted, by tenant."""
    found: dict[str, int] = {}
    for row in server.get("/v1/ledger")[1]["ledger"]:
        assert row["received"] == row["aggregated"], row
        found[row["tenant_id"]] = found.get(row["tenant_id"], 0) + row["aggregated"]
    return found
