"""Every kind of event through the whole process, on both logs: posted alone and among many, counted, asked for, closed.

All of it is sent twice, and the second time nothing changes but `duplicate`.
"""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cramjam
import pytest

from process_logs import LOGS, on_log
from process_server import Server, at_last

COUNT = 21
"""Events of each kind, of which the first comes alone and the others in one body."""
ENCODED: dict[str, Callable[[bytes], Any]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": lambda body: bytes(cramjam.zstd.compress(body)),
}


class Kind(NamedTuple):
    """Where one event of a kind goes, where many go, how those are compressed, and the n-th of them."""

    one: str
    many: str
    encoding: str
    event: Callable[[int], dict[str, Any]]


SERIES = {"route": "chat", "model": "gpt-4o-mini"}


def asked(n: int) -> dict[str, Any]:
    return {"provider": "openai", "region": ("us", "eu")[n % 2], "sender": "shop/1.0"}


def took(n: int) -> dict[str, Any]:
    return {"latency_ms": 10 * (n + 1)}


def request(n: int) -> dict[str, Any]:
    names = {"type": "request", "request_id": f"half-{n}", "tenant_id": "halves"}
    return {**names, **SERIES, **asked(n), "prompt_tokens": 100 + n}


def response(n: int) -> dict[str, Any]:
    return {"type": "response", "request_id": f"half-{n}", **took(n), "completion_tokens": n}


def call(n: int) -> dict[str, Any]:
    return {**request(n), **response(n), "type": "call", "request_id": f"call-{n}", "tenant_id": "call"}


def llm_log(n: int) -> dict[str, Any]:
    tokens = {"input_tokens": 100 + n, "output_tokens": n}
    return {"project_id": "llm_log", **SERIES, **asked(n), **took(n), **tokens, "status": "success"}


def telemetry(n: int) -> dict[str, Any]:
    names = {"event_id": f"event-{n}", "tenant_id": "telemetry", "route": "chat", "model_id": "gpt-4o-mini"}
    return {**names, **asked(n), **took(n), "tokens_in": 100 + n, "tokens_out": n}


def service(n: int) -> dict[str, Any]:
    names = {"tenant_id": "service", "service": "checkout", "endpoint": "/pay", "sender": "shop/1.0"}
    return {**names, **took(n), "status_code": 200 if n % 3 else 503}


def evaluation(n: int) -> dict[str, Any]:
    names = {"request_id": f"call-{n}", "tenant_id": "evaluation", **SERIES, "name": "truth", "evaluator": "judge"}
    return {**names, "score": n / 10, "label": ("good", "bad")[n % 2]}


def log(n: int) -> dict[str, Any]:
    return {"tenant_id": "log", "level": ("info", "error")[n % 2], "service": "api", "message": f"line {n}"}


def metric(n: int) -> dict[str, Any]:
    return {"tenant_id": "metric", "name": "cpu", "value": n / 4, "unit": "share", "tags": {"host": "a"}}


KINDS = (
    Kind("/v1/llm/request", "/v1/llm/events", "identity", request),
    Kind("/v1/llm/response", "/v1/llm/events", "gzip", response),
    Kind("/v1/llm/call", "/v1/llm/events", "zstd", call),
    Kind("/api/v1/ingest/llm", "/api/v1/ingest/llm/bulk", "gzip", llm_log),
    Kind("/v1/events", "/v1/events", "zstd", telemetry),
    Kind("/v1/services/events", "/v1/services/events", "identity", service),
    Kind("/v1/evaluations", "/v1/evaluations", "gzip", evaluation),
    Kind("/api/v1/ingest/app", "/api/v1/ingest/app", "zstd", log),
    Kind("/api/v1/ingest/metrics", "/api/v1/ingest/metrics", "identity", metric),
)

CALLS = ("halves", "call", "llm_log", "telemetry")
"""Tenants whose kinds of events say the same in other words."""
CALL = ("route", "model", "requests", "errors", "prompt_tokens", "completion_tokens", "min_latency_ms")
CALL += ("max_latency_ms", "priced", "unpriced")
FACET = ("facet", "value", "requests", "errors")
TALLY = ("name", "detail", "count", "sum", "min", "max")

ASKED: list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]] = [
    *(
        (f"/v1/metrics?tenant_id={each}", CALL, [("chat", "gpt-4o-mini", 21, 0, 2310, 210, 10, 210, 21, 0)])
        for each in CALLS
    ),
    *(
        (f"/v1/metrics?tenant_id={each}&group_by=region", FACET, [("region", "eu", 10, 0), ("region", "us", 11, 0)])
        for each in CALLS
    ),
    *(
        (f"/v1/metrics?tenant_id={each}&group_by=sender&step=1h", FACET, [("sender", "shop/1.0", 21, 0)])
        for each in CALLS
    ),
    ("/v1/metrics?tenant_id=service", CALL, [("checkout", "none", 21, 7, 0, 0, 10, 210, 0, 21)]),
    ("/v1/metrics?tenant_id=service&group_by=error_type", FACET, [("error_type", "server_error", 7, 7)]),
    (
        "/v1/tallies?tenant_id=service",
        TALLY,
        [
            ("completion_tokens_missing", "shop/1.0", 14, None, None, None),
            ("prompt_tokens_missing", "shop/1.0", 14, None, None, None),
            ("provider_missing", "shop/1.0", 21, None, None, None),
        ],
    ),
    ("/v1/tallies?tenant_id=call", TALLY, []),
    (
        "/v1/evaluations?tenant_id=evaluation",
        ("route", "model", "name", "evaluations", "scored", "avg_score", "min_score", "max_score", "labels"),
        [("chat", "gpt-4o-mini", "truth", 21, 21, 1, 0, 2, {"good": 11, "bad": 10})],
    ),
    (
        "/v1/tallies?tenant_id=log&kind=log",
        TALLY,
        [("api", "ERROR", 10, None, None, None), ("api", "INFO", 11, None, None, None)],
    ),
    (
        "/api/v1/analytics/logs/recent?tenant_id=log&level=ERROR",
        ("level", "service", "message"),
        sorted([("ERROR", "api", f"line {n}") for n in range(1, COUNT, 2)], key=repr),
    ),
    ("/v1/tallies?tenant_id=metric&step=5m", TALLY, [("cpu", "host=a,unit=share", 21, 52.5, 0, 5)]),
]
"""A question, the columns of its answer to look at, and their values, sorted."""

ONCE = dict.fromkeys((*CALLS, "service", "evaluation", "log", "metric"), (COUNT, COUNT, 0))
ONCE["halves"] = (2 * COUNT, 2 * COUNT, 0)
TWICE = {tenant_id: (received + COUNT, aggregated, COUNT) for tenant_id, (received, aggregated, _) in ONCE.items()}
TWICE[""] = (COUNT, 0, COUNT)  # a response that is known already is nobody's
"""Received, aggregated and duplicate, by tenant, when all is sent once, and again."""


@pytest.fixture(scope="module", params=LOGS)
def server(request: pytest.FixtureRequest, scratch: Path, postgres: str) -> Iterator[Server]:
    with on_log(request.param, "kinds", scratch, postgres) as (server, _):
        yield server.start()
        assert server.stop() == 0


def send(server: Server, at_ms: int) -> None:
    """Every kind, one event alone and the others together."""
    for kind in KINDS:
        time_of = "ts" if kind.event is telemetry else "timestamp"
        events = [{**kind.event(n), time_of: at_ms} for n in range(COUNT)]
        status, answer = server.post(kind.one, events[0])
        assert (status, answer["status"], answer.get("accepted", 1)) == (202, "accepted", 1), (kind, answer)
        body = ENCODED[kind.encoding](json.dumps(events[1:]).encode())
        status, answer = server.send(kind.many, body, kind.encoding)
        assert (status, answer["accepted"], answer["errors"]) == (202, COUNT - 1, []), (kind, answer)


def rows(server: Server, path: str) -> list[dict[str, Any]]:
    """The rows of an answer, whatever they are called."""
    status, answer = server.get(path)
    assert status == 200, answer
    found: list[dict[str, Any]] = next(iter(answer.values()))
    return found


def seen(server: Server) -> dict[str, list[tuple[Any, ...]]]:
    """What `ASKED` asks for."""
    return {
        path: sorted((tuple(row[name] for name in columns) for row in rows(server, path)), key=repr)
        for path, columns, _ in ASKED
    }


def ledger(server: Server) -> dict[str, tuple[int, int, int]]:
    """Received, aggregated and duplicate of the tenants in `TWICE`."""
    found = {row["tenant_id"]: row for row in rows(server, "/v1/ledger") if row["tenant_id"] in TWICE}
    assert all(row["closes"] for row in found.values()), found
    return {
        name: (row["received"], row["aggregated"], row["duplicate"]) for name, row in found.items() if row["received"]
    }


def calls_of(server: Server, tenant_id: str) -> list[tuple[int, int]]:
    """Calls and prompt tokens of each row of a tenant."""
    return [(row["requests"], row["prompt_tokens"]) for row in rows(server, f"/v1/metrics?tenant_id={tenant_id}")]


def check_audit(server: Server) -> None:
    audit = server.audit()
    assert (audit.returncode, audit.stdout.endswith("\ncloses\n")) == (0, True), audit.stdout + audit.stderr


def test_every_kind_is_counted_asked_for_and_known_again(server: Server) -> None:
    at_ms = time.time_ns() // 1_000_000
    send(server, at_ms)
    expected = {path: values for path, _, values in ASKED}
    assert at_last(lambda: seen(server), expected) == expected
    assert at_last(lambda: ledger(server), ONCE) == ONCE
    check_audit(server)
    before = {path: rows(server, path) for path, _, _ in ASKED}

    send(server, at_ms)
    assert at_last(lambda: ledger(server), TWICE) == TWICE
    check_audit(server)
    assert {path: rows(server, path) for path, _, _ in ASKED} == before


def test_1500_keys_in_one_body_all_arrive(server: Server) -> None:
    common = {"type": "call", "tenant_id": "keys", "timestamp": time.time_ns() // 1_000_000, "latency_ms": 1}
    events = [common | SERIES | {"request_id": f"key-{n}", "prompt_tokens": n} for n in range(1_500)]
    status, answer = server.post("/v1/llm/events", events)
    assert (status, answer["accepted"]) == (202, 1_500), answer
    expected = [(1_500, sum(range(1_500)))]
    assert at_last(lambda: calls_of(server, "keys"), expected) == expected
    check_audit(server)
