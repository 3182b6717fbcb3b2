"""What comes in other words than ours, and what is told besides calls: what lies in the log, and what is refused."""

import gzip
import json
from collections.abc import AsyncIterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from streamlens.log import TP
from streamlens.partitioner import partition_of
from web_server import NOW_US, PARTITIONS, Site, counted, serving

NOW_MS = NOW_US // 1000
TS = "2026-02-21T12:34:56.789000Z"
CALL = {"tenant_id": "default", "route": "default", "model": "m", "latency_ms": 8}


def hashed(text: str | bytes) -> str:
    return blake2b(text if isinstance(text, bytes) else text.encode(), digest_size=16).hexdigest()


PATHS = {
    "llm_log": "/api/v1/ingest/llm",
    "telemetry": "/v1/events",
    "service": "/v1/services/events",
    "evaluation": "/v1/evaluations",
    "log": "/api/v1/ingest/app",
    "metric": "/api/v1/ingest/metrics",
}
TOPICS = {
    **dict.fromkeys(("llm_log", "telemetry", "service"), "llm.calls"),
    "evaluation": "llm.evaluations",
    "log": "streamlens.applogs",
    "metric": "streamlens.sysmetrics",
}
EVENTS: dict[str, dict[str, Any]] = {
    "llm_log": {"request_id": "r", "timestamp": TS, "model": "m", "latency_ms": 8},
    "telemetry": {"request_id": "r", "ts": TS, "model_id": "m", "latency_ms": 8},
    "service": {"request_id": "r", "timestamp": TS, "service": "pay", "status_code": 200, "latency_ms": 8},
    "evaluation": {"request_id": "r", "timestamp": TS, "tenant_id": "t", "name": "toxicity", "score": 0.5},
    "log": {"timestamp": TS, "tenant_id": "t", "level": "warn", "message": "slow"},
    "metric": {"timestamp": TS, "tenant_id": "t", "name": "cpu", "value": 0.5},
}


def event(kind: str, **changed: Any) -> bytes:
    return json.dumps({name: value for name, value in (EVENTS[kind] | changed).items() if value != "absent"}).encode()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


async def sent(site: Site, kind: str, body: bytes) -> dict[str, Any]:
    """The one event in the log once `body` is accepted."""
    answer = await site.http.post(PATHS[kind], data=body)
    assert (answer.status, await answer.json()) == (
        202,
        {"status": "accepted", "accepted": 1, "rejected": 0, "errors": []},
    )
    [(tp, [value])] = site.written().items()
    assert tp.topic == TOPICS[kind]
    found: dict[str, Any] = json.loads(value)
    return found


FULL: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "llm_log",
        {
            "project_id": "acme",
            "request_id": "r-1",
            "timestamp": TS,
            "provider": "openai",
            "model": "m-1",
            "prompt": [{"role": "user", "content": "ü\0"}],
            "response": "hello",
            "input_tokens": 3,
            "output_tokens": 4,
            "latency_ms": 812.5,
            "status": "error",
            "error": "boom",
            "session_id": "s",
            "user_id": "ann",
            "cost": 0.25,
            "metadata": {"country": "DE"},
            "unknown": 1,
        },
        {
            "tenant_id": "acme",
            "request_id": "r-1",
            "timestamp": TS,
            "route": "default",
            "provider": "openai",
            "model": "m-1",
            "prompt": [{"role": "user", "content": "ü\0"}],
            "response": "hello",
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "latency_ms": 812.5,
            "error": "boom",
            "error_type": "other",
            "session_id": "s",
            "user_id_hash": hashed("ann"),
            "cost_usd": 0.25,
            "metadata": {"country": "DE"},
        },
    ),
    (
        "telemetry",
        {
            "event_id": "e-1",
            "ts": TS,
            "user_id": "u_123",
            "session_id": "s_456",
            "request_id": "r_789",
            "model_id": "gpt-oss-1",
            "model_version": "2026-02-21",
            "prompt_version": "pv_12",
            "experiment": {"name": "reranker_v2", "variant": "B"},
            "latency_ms": 812,
            "tokens_in": 421,
            "tokens_out": 233,
            "status": "ok",
            "error_type": None,
            "region": "eu-central",
            "client": {"app": "web", "os": "macos"},
        },
        {
            "tenant_id": "default",
            "route": "default",
            "request_id": "r_789",
            "timestamp": TS,
            "user_id_hash": hashed("u_123"),
            "session_id": "s_456",
            "model": "gpt-oss-1",
            "model_version": "2026-02-21",
            "prompt_version": "pv_12",
            "experiment": {"name": "reranker_v2", "variant": "B"},
            "latency_ms": 812,
            "prompt_tokens": 421,
            "completion_tokens": 233,
            "region": "eu-central",
            "client": {"app": "web", "os": "macos"},
        },
    ),
    (
        "service",
        {
            "timestamp": TS,
            "service": "checkout",
            "endpoint": "/pay",
            "status_code": 503,
            "latency_ms": 9,
            "tenant_id": "acme",
            "request_id": "r-1",
        },
        {
            "timestamp": TS,
            "route": "checkout",
            "model": "none",
            "metadata": {"status_code": 503, "endpoint": "/pay"},
            "error_type": "server_error",
            "latency_ms": 9,
            "tenant_id": "acme",
            "request_id": "r-1",
        },
    ),
]


@pytest.mark.parametrize(("kind", "body", "call"), FULL, ids=[row[0] for row in FULL])
async def test_what_becomes_of_each_field(site: Site, kind: str, body: dict[str, Any], call: dict[str, Any]) -> None:
    assert await sent(site, kind, json.dumps(body).encode()) == call


@pytest.mark.parametrize("kind", ["evaluation", "log", "metric"])
async def test_an_observation_lies_in_the_log_as_it_was_sent(site: Site, kind: str) -> None:
    body = event(kind, unknown="kept", sender="agent")
    assert (await site.http.post(PATHS[kind], data=body)).status == 202
    key = b"r" if kind == "evaluation" else hashed(body).encode()
    assert site.written() == {TP(TOPICS[kind], partition_of(key, PARTITIONS)): [body]}


@pytest.mark.parametrize("kind", ["evaluation", "log", "metric"])
async def test_an_observation_gets_the_tenant_and_time_that_it_lacks(site: Site, kind: str) -> None:
    body = event(kind, timestamp="absent", tenant_id="absent", project_id="p")
    members = (await sent(site, kind, body)).items()
    assert list(members) == [("tenant_id", "p"), ("timestamp", NOW_MS), *json.loads(body).items()]


@pytest.mark.parametrize("kind", PATHS)
async def test_the_sender_is_the_clients_program_if_none_is_named(site: Site, kind: str) -> None:
    for agent, body in (("agent/1 (x)", event(kind)), ("agent/1", event(kind, sender="proxy"))):
        assert (await site.http.post(PATHS[kind], data=body, headers={"User-Agent": agent})).status == 202
    senders = {json.loads(value)["sender"] for values in site.written().values() for value in values}
    assert senders == {"agent/1", "proxy"}


BAD: list[tuple[str, str, Any]] = [
    *[(kind, field, "absent") for kind in ("llm_log",) for field in ("model", "latency_ms")],
    *[("telemetry", field, "absent") for field in ("ts", "model_id", "latency_ms")],
    *[("service", field, "absent") for field in ("service", "status_code", "latency_ms")],
    *[("evaluation", field, "absent") for field in ("request_id", "name", "score")],
    *[("log", field, "absent") for field in ("level", "message")],
    *[("metric", field, "absent") for field in ("name", "value")],
    ("llm_log", "model", ""),
    ("llm_log", "model", "a\0"),
    ("llm_log", "project_id", "\0"),
    ("llm_log", "project_id", ""),
    ("llm_log", "project_id", -1),
    ("llm_log", "project_id", 2**63),
    ("llm_log", "project_id", True),
    ("llm_log", "tenant_id", 7),
    ("llm_log", "request_id", "x" * 129),
    ("llm_log", "input_tokens", -1),
    ("llm_log", "input_tokens", 1.5),
    ("llm_log", "output_tokens", 10_000_001),
    ("llm_log", "output_tokens", True),
    ("llm_log", "latency_ms", 3_600_001),
    ("llm_log", "cost", -0.1),
    ("llm_log", "status", 99),
    ("llm_log", "status", True),
    ("llm_log", "status", {}),
    ("llm_log", "error", {"code": 1}),
    ("llm_log", "user_id", []),
    ("llm_log", "user_id", "x" * 257),
    ("llm_log", "metadata", {"a": {}}),
    ("llm_log", "metadata", {str(number): number for number in range(33)}),
    ("llm_log", "timestamp", NOW_MS + 60_001),
    ("llm_log", "timestamp", "2026-01-01"),
    ("telemetry", "ts", NOW_MS + 60_001),
    ("telemetry", "ts", "1999-01-01T00:00:00Z"),
    ("telemetry", "ts", NOW_US),
    ("telemetry", "ts", None),
    ("telemetry", "model_id", None),
    ("telemetry", "model_id", "\0"),
    ("telemetry", "event_id", ""),
    ("telemetry", "tokens_in", "1"),
    ("telemetry", "experiment", {"name": "a"}),
    ("telemetry", "client", "web"),
    ("service", "status_code", "200"),
    ("service", "status_code", 600),
    ("service", "endpoint", "x" * 257),
    ("service", "endpoint", "\0"),
    ("service", "metadata", {str(number): number for number in range(32)}),
    ("evaluation", "score", 1e10),
    ("evaluation", "timestamp", NOW_MS + 60_001),
    ("evaluation", "tenant_id", ""),
    ("log", "level", "loud"),
    ("log", "message", "x" * 8193),
    ("log", "attributes", [1]),
    ("log", "project_id", "\0"),
    ("metric", "value", "1"),
    ("metric", "tags", {"a": "\0"}),
    ("metric", "sender", "x" * 257),
]


@pytest.mark.parametrize("kind", PATHS)
async def test_a_bad_event_is_named_counted_and_not_written(site: Site, kind: str) -> None:
    before = counted("streamlens_events_total", kind=kind, outcome="rejected")
    rows = [(field, value) for of, field, value in BAD if of == kind]
    for field, value in rows:
        changed = {field: value} | ({"tenant_id": "absent"} if field == "project_id" else {})

        answer = await site.http.post(PATHS[kind], data=event(kind, **changed))

        problem = await answer.json()
        assert (answer.status, answer.content_type) == (400, "application/problem+json"), (field, value, problem)
        assert (problem["field"].split(".")[0], problem["rejected"]) == (field, 1), (field, value, problem)
    assert site.written() == {}
    assert counted("streamlens_events_total", kind=kind, outcome="rejected") == before + len(rows) > before


JUNK = [b"", b" \n", b"{", b"1", b"null", b"[]", b'"x"', b'{"a":1,}', b'{"unknown":"\xff"}', b"[" * 100_000, b"\0"]


@pytest.mark.parametrize("kind", PATHS)
async def test_junk_is_refused(site: Site, kind: str) -> None:
    for body in JUNK:
        answer = await site.http.post(PATHS[kind], data=body)
        assert (answer.status, answer.content_type) == (400, "application/problem+json"), (body, await answer.text())
    assert site.written() == {}


def bodies(lines: list[bytes]) -> dict[str, bytes]:
    return {"NDJSON": b"\n".join(lines), "an array": b"[" + b",\n".join(lines) + b"]"}


@pytest.mark.parametrize("form", ["NDJSON", "an array"])
@pytest.mark.parametrize("kind", PATHS)
async def test_of_many_the_good_ones_count_and_the_bad_ones_are_named(site: Site, kind: str, form: str) -> None:
    before = counted("streamlens_events_total", kind=kind, outcome="accepted")
    good = [event(kind, request_id=f"r-{number}") for number in range(3)]
    body = bodies([good[0], b'{"latency_ms":-1}', good[1], event(kind, sender=5), good[2]])[form]

    path = PATHS[kind] + ("/bulk" if kind == "llm_log" else "")
    answer = await site.http.post(path, data=gzip.compress(body), headers={"Content-Encoding": "gzip"})

    answered = await answer.json()
    assert (answer.status, answered["accepted"], answered["rejected"]) == (202, 3, 2), answered
    assert [error["index"] for error in answered["errors"]] == [1, 3]
    assert answered["errors"][1]["field"] == "sender"
    values = [json.loads(value) for values in site.written().values() for value in values]
    assert sorted(value["request_id"] for value in values) == ["r-0", "r-1", "r-2"]
    assert counted("streamlens_events_total", kind=kind, outcome="accepted") == before + 3


@pytest.mark.parametrize("kind", PATHS)
async def test_a_single_event_may_take_many_lines(site: Site, kind: str) -> None:
    await sent(site, kind, b"\n" + json.dumps(EVENTS[kind], indent=2).encode() + b"\n")


UNNAMED = {
    "llm_log": {"request_id": "absent"},
    "telemetry": {"request_id": "absent"},
    "service": {"request_id": "absent"},
    "log": {},
    "metric": {},
}


@pytest.mark.parametrize("kind", UNNAMED)
async def test_a_repeated_batch_changes_nothing(site: Site, kind: str) -> None:
    """Whether an event comes alone, in an array or on a line, its bytes give it the same identity."""
    lines = [event(kind, latency_ms=number, value=number, message=str(number), **UNNAMED[kind]) for number in range(9)]
    for body in (*bodies(lines).values(), *(line + b"\n" for line in lines)):
        assert (await site.http.post(PATHS[kind], data=body, headers={"User-Agent": "a/1"})).status == 202

    found = {tp: [json.loads(value).get("request_id", value) for value in at] for tp, at in site.written().items()}
    assert sum(map(len, found.values())) == 27
    # The same nine identities three times, each in one partition.
    assert sum(len(set(ids)) for ids in found.values()) == len({each for ids in found.values() for each in ids}) == 9
    if TOPICS[kind] == "llm.calls":
        assert {each for ids in found.values() for each in ids} == set(map(hashed, lines))


@pytest.mark.parametrize("kind", ["llm_log", "service"])
async def test_an_event_without_id_and_time_is_a_new_one_each_time(site: Site, kind: str) -> None:
    body = event(kind, request_id="absent", timestamp="absent")
    for _ in range(2):
        assert (await site.http.post(PATHS[kind], data=body)).status == 202
    ids = {json.loads(value)["request_id"] for values in site.written().values() for value in values}
    assert len(ids) == 2
