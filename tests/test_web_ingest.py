"""`POST /v1/llm/…`: what is taken lies in the log as sent; what is refused leaves no trace but a count."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import cramjam
import pytest

import web.body
import web.ingest
import web.services
from streamlens.app import app
from streamlens.errors import Unavailable
from streamlens.events import MAX_EVENT_BYTES
from streamlens.keys import ANYONE
from streamlens.log import TP
from streamlens.partitioner import partition_of
from web.arrival import Arrival
from web_server import NOW_US, PARTITIONS, Site, counted, serving

REQUEST = {
    "type": "request",
    "request_id": "r-1",
    "tenant_id": "acme",
    "route": "chat",
    "model": "m-1",
    "timestamp": NOW_US // 1000,
    "prompt_tokens": 3,
}
RESPONSE = {"type": "response", "request_id": "r-1", "timestamp": NOW_US // 1000, "completion_tokens": 4}
CALL = {**REQUEST, "type": "call", "latency_ms": 12.5}
EVENTS = {"request": REQUEST, "response": RESPONSE, "call": CALL}
TOPICS = {"request": "llm.requests", "response": "llm.responses", "call": "llm.calls"}
GOOD = json.dumps(CALL).encode()


def but(event: dict[str, object], **changed: object) -> bytes:
    return json.dumps({**event, **changed}).encode()


def raw(name: bytes, value: bytes) -> bytes:
    """A call with one more field, as bytes that `json.dumps` would not write."""
    return GOOD[:-1] + b',"' + name + b'":' + value + b"}"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


@pytest.mark.parametrize("kind", EVENTS)
async def test_an_event_lies_in_its_partition_as_it_was_sent(site: Site, kind: str) -> None:
    body = json.dumps({**EVENTS[kind], "unknown": "kept", "prompt": "ü"}, indent=1, ensure_ascii=False).encode()
    before = counted("streamlens_events_total", kind=kind, outcome="accepted")

    answer = await site.http.post(f"/v1/llm/{kind}", data=body, headers={"Content-Type": "application/json"})

    assert (answer.status, await answer.json()) == (202, {"status": "accepted"})
    assert site.written() == {TP(TOPICS[kind], partition_of(b"r-1", PARTITIONS)): [body]}
    assert counted("streamlens_events_total", kind=kind, outcome="accepted") == before + 1


BAD = [
    ("an empty body", b"", 400, ""),
    ("white space", b" \n ", 400, ""),
    ("not JSON", b"{", 400, ""),
    ("an array", b"[]", 400, ""),
    ("a number", b"1", 400, ""),
    ("null", b"null", 400, ""),
    ("two objects", GOOD + GOOD, 400, ""),
    ("a trailing comma", GOOD[:-1] + b",}", 400, ""),
    ("NaN as a count", raw(b"prompt_tokens", b"NaN"), 400, ""),
    ("Infinity as a latency", raw(b"latency_ms", b"Infinity"), 400, ""),
    ("a number beyond doubles", raw(b"latency_ms", b"1e400"), 400, "latency_ms"),
    ("a lone surrogate", but(CALL, route="\ud800"), 400, ""),
    ("invalid UTF-8 in a name", GOOD.replace(b"chat", b"\xff"), 400, ""),
    ("invalid UTF-8 in an unknown field", raw(b"unknown", b'"\xff"'), 400, ""),
    ("an encoded surrogate", raw(b"unknown", b'"\xed\xa0\x80"'), 400, ""),
    ("a raw NUL", GOOD.replace(b"chat", b"\0"), 400, ""),
    ("NUL in a name", but(CALL, route="a\0b"), 400, "route"),
    ("NUL in an id", but(CALL, request_id="\0"), 400, "request_id"),
    ("NUL in a key of metadata", but(CALL, metadata={"a\0": 1}), 400, "metadata"),
    ("NUL in a nested name", but(CALL, experiment={"name": "\0", "variant": "b"}), 400, "experiment"),
    ("no request_id", json.dumps({**CALL, "request_id": None}).encode(), 400, "request_id"),
    ("no tenant", json.dumps({k: v for k, v in CALL.items() if k != "tenant_id"}).encode(), 400, "tenant_id"),
    ("no latency", but(REQUEST, type="call"), 400, "latency_ms"),
    ("an empty name", but(CALL, model=""), 400, "model"),
    ("a number as a name", but(CALL, model=5), 400, "model"),
    ("an id of 129 characters", but(CALL, request_id="x" * 129), 400, "request_id"),
    ("a name of 257 characters", but(CALL, route="x" * 257), 400, "route"),
    ("a boolean as a count", but(CALL, prompt_tokens=True), 400, "prompt_tokens"),
    ("a fraction as a count", but(CALL, completion_tokens=1.5), 400, "completion_tokens"),
    ("a text as a count", but(CALL, completion_tokens="1"), 400, "completion_tokens"),
    ("a negative count", but(CALL, cached_tokens=-1), 400, "cached_tokens"),
    ("a count over the limit", but(CALL, prompt_tokens=10_000_001), 400, "prompt_tokens"),
    ("a latency over an hour", but(CALL, latency_ms=3_600_001), 400, "latency_ms"),
    ("a negative latency", but(CALL, latency_ms=-1), 400, "latency_ms"),
    ("a time without an offset", but(CALL, timestamp="2026-01-01T00:00:00"), 400, "timestamp"),
    ("a date", but(CALL, timestamp="2026-01-01"), 400, "timestamp"),
    ("a fraction as a time", but(CALL, timestamp=1.5), 400, "timestamp"),
    ("a boolean as a time", but(CALL, timestamp=True), 400, "timestamp"),
    ("seconds instead of milliseconds", but(CALL, timestamp=NOW_US // 1_000_000), 400, "timestamp"),
    ("microseconds instead of milliseconds", but(CALL, timestamp=NOW_US), 400, "timestamp"),
    ("a time beyond all calendars", but(CALL, timestamp=10**30), 400, "timestamp"),
    ("a minute and a millisecond ahead", but(CALL, timestamp=NOW_US // 1000 + 60_001), 400, "timestamp"),
    ("an object in metadata", but(CALL, metadata={"a": {}}), 400, "metadata"),
    ("33 entries of metadata", but(CALL, metadata={str(n): n for n in range(33)}), 400, "metadata"),
    ("5 KB of metadata", but(CALL, metadata={"a": "x" * 5000}), 400, "metadata"),
    ("an experiment without variant", but(CALL, experiment={"name": "a"}), 400, "experiment.variant"),
    ("deep nesting", raw(b"prompt", b"[" * 100_000 + b"]" * 100_000), 400, ""),
    ("deep nesting in an unknown field", raw(b"unknown", b'{"a":' * 50_000 + b"1" + b"}" * 50_000), 400, ""),
    ("a prompt that is too large", raw(b"prompt", b'"' + b"x" * MAX_EVENT_BYTES + b'"'), 413, ""),
]


@pytest.mark.parametrize(("body", "status", "field"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_a_bad_event_is_named_counted_and_not_written(site: Site, body: bytes, status: int, field: str) -> None:
    before = counted("streamlens_events_total", kind="call", outcome="rejected")

    answer = await site.http.post("/v1/llm/call", data=body, headers={"Content-Type": "application/json"})

    problem = await answer.json()
    assert (answer.status, answer.content_type) == (status, "application/problem+json"), problem
    assert (problem["status"], problem.get("field", "")) == (status, field), problem
    assert problem["title"] and problem["detail"]
    assert site.written() == {}
    assert counted("streamlens_events_total", kind="call", outcome="rejected") == before + 1


LINES = [row for row in BAD if row[1].strip()]


@pytest.mark.parametrize(("bad", "field"), [(row[1], row[3]) for row in LINES], ids=[row[0] for row in LINES])
async def test_a_bad_event_among_good_ones_is_named_by_its_index(site: Site, bad: bytes, field: str) -> None:
    answer = await site.http.post("/v1/llm/events", data=b"\n".join([GOOD, bad, GOOD]))

    answered = await answer.json()
    assert (answer.status, answered["status"], answered["accepted"], answered["rejected"]) == (202, "accepted", 2, 1)
    assert [(error["index"], error["field"]) for error in answered["errors"]] == [(1, field)]
    assert sum(map(len, site.written().values())) == 2


BULK = [
    ("NDJSON", b"\n".join(json.dumps(event).encode() for event in EVENTS.values()), 3, []),
    ("an array", json.dumps(list(EVENTS.values())).encode(), 3, []),
    ("an indented array", b" \n" + json.dumps(list(EVENTS.values()), indent=2).encode() + b"\n", 3, []),
    ("blank lines, CRLF and a last line feed", b"\n\r\n" + GOOD + b"\r\n  \n" + GOOD + b"\n\n", 2, []),
    ("a single line", GOOD, 1, []),
    ("a single event on many lines", b"\n" + json.dumps(CALL, indent=2).encode() + b"\n", 1, []),
    ("a type that does not exist", GOOD + b"\n" + but(CALL, type="span"), 1, [(1, "type")]),
    ("no type", GOOD + b"\n{}", 1, [(1, "type")]),
    ("a number in an array", b"[" + GOOD + b",1]", 1, [(1, "")]),
    ("the first and the last are bad", b"[{}," + GOOD + b",null]", 1, [(0, "type"), (2, "")]),
]


@pytest.mark.parametrize(("body", "accepted", "errors"), [row[1:] for row in BULK], ids=[row[0] for row in BULK])
async def test_many_events_in_one_body(site: Site, body: bytes, accepted: int, errors: list[tuple[int, str]]) -> None:
    answer = await site.http.post("/v1/llm/events", data=body, headers={"Content-Type": "application/x-ndjson"})

    answered = await answer.json()
    assert (answer.status, answered["accepted"], answered["rejected"]) == (202, accepted, len(errors)), answered
    assert [(error["index"], error["field"]) for error in answered["errors"]] == errors
    values = [value for values in site.written().values() for value in values]
    assert len(values) == accepted
    assert all(value == value.strip() for value in values)


async def test_each_event_of_a_body_lies_in_the_topic_of_its_type(site: Site) -> None:
    lines = {kind: json.dumps(event).encode() for kind, event in EVENTS.items()}
    before = {kind: counted("streamlens_events_total", kind=kind, outcome="accepted") for kind in EVENTS}

    await site.http.post("/v1/llm/events", data=b"\n".join(lines.values()))

    partition = partition_of(b"r-1", PARTITIONS)
    assert site.written() == {TP(TOPICS[kind], partition): [line] for kind, line in lines.items()}
    for kind in EVENTS:
        assert counted("streamlens_events_total", kind=kind, outcome="accepted") == before[kind] + 1


EMPTY = [
    ("nothing", b"", ""),
    ("blank lines", b"\n \r\n\n", ""),
    ("an empty array", b" [ ] ", ""),
    ("an array that does not end", b"[" + GOOD, ""),
    ("a trailing comma", b"[" + GOOD + b",]", ""),
    ("text after the array", b"[" + GOOD + b"]" + GOOD, ""),
    ("more items than events can fit", b"[" + b",".join([b"{}"] * 2000) + b"]", ""),
    ("more lines than events can fit", b"{}\n" * 2000, ""),
    ("a deeply nested array", b"[" * 100_000, ""),
    ("only bad events", b"{}\n{}", "type"),
]


@pytest.mark.parametrize(("body", "field"), [row[1:] for row in EMPTY], ids=[row[0] for row in EMPTY])
async def test_a_body_without_a_good_event_is_refused(site: Site, body: bytes, field: str) -> None:
    before = counted("streamlens_events_total", kind="unknown", outcome="rejected")

    answer = await site.http.post("/v1/llm/events", data=body)

    problem = await answer.json()
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert problem.get("field", "") == field, problem
    assert site.written() == {}
    assert counted("streamlens_events_total", kind="unknown", outcome="rejected") == before + problem.get("rejected", 1)


async def test_of_many_bad_events_the_first_hundred_are_named_and_all_are_counted(site: Site) -> None:
    answer = await site.http.post("/v1/llm/events", data=b"\n".join([b"{}"] * 1000 + [GOOD] * 200))

    answered = await answer.json()
    assert (answered["accepted"], answered["rejected"]) == (200, 1000)
    assert [error["index"] for error in answered["errors"]] == list(range(100))


AGENTS = [
    ("openai-python/1.2", "openai-python/1.2"),
    ("Mozilla/5.0 (X11; Linux x86_64) Gecko", "Mozilla/5.0"),
    ("x" * 100, "x" * 64),
    ('a"b\\c', 'a"b\\c'),
    ("ü", "ü"),
    ("", None),
    (" ", None),
]


@pytest.mark.parametrize("path", ["/v1/llm/call", "/v1/llm/events"])
@pytest.mark.parametrize(("agent", "sender"), AGENTS)
async def test_who_has_sent_an_event_is_put_first(site: Site, path: str, agent: str, sender: str | None) -> None:
    body = b" " + GOOD

    answer = await site.http.post(path, data=body, headers={"User-Agent": agent})

    assert answer.status == 202, await answer.text()
    [[value]] = site.written().values()
    assert value.endswith(GOOD[1:])
    assert list(json.loads(value).items()) == [*([("sender", sender)] if sender else []), *CALL.items()]


async def test_a_sender_of_no_text_is_made_one(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    head = f"POST /v1/llm/call HTTP/1.1\r\nHost: x\r\nContent-Length: {len(GOOD)}\r\nUser-Agent: a".encode()
    writer.write(head + b"\xff/1\r\n\r\n" + GOOD)
    assert (await reader.readline()).split()[1] == b"202"
    writer.close()
    [[value]] = site.written().values()
    assert json.loads(value)["sender"] == "a?/1"


@pytest.mark.parametrize("kind", EVENTS)
async def test_an_event_that_names_its_sender_is_left_alone(site: Site, kind: str) -> None:
    body = but(EVENTS[kind], sender="proxy")
    answer = await site.http.post(f"/v1/llm/{kind}", data=body, headers={"User-Agent": "agent/1"})
    assert (answer.status, list(site.written().values())) == (202, [[body]])


async def test_a_thousand_events_keep_their_order_within_a_partition(site: Site) -> None:
    lines = [but(CALL, request_id=f"r-{number % 50}", prompt_tokens=number) for number in range(1000)]

    answer = await site.http.post("/v1/llm/events", data=b"[" + b",".join(lines) + b"]")

    assert (await answer.json())["accepted"] == 1000
    expected: dict[TP, list[bytes]] = {}
    for number, line in enumerate(lines):
        tp = TP("llm.calls", partition_of(f"r-{number % 50}".encode(), PARTITIONS))
        expected.setdefault(tp, []).append(line)
    assert site.written() == expected


TOO_LARGE = b" " * (16 * 1024 * 1024 + 1)
CODED = [
    ("gzip", gzip.compress(GOOD), "gzip", 202),
    ("two gzip members", gzip.compress(GOOD[:9]) + gzip.compress(GOOD[9:]), "gzip", 202),
    ("gzip in capitals", gzip.compress(GOOD), "GZIP", 202),
    ("deflate", zlib.compress(GOOD), "deflate", 202),
    ("zstd", bytes(cramjam.zstd.compress(GOOD)), "zstd", 202),
    ("none, said so", GOOD, "identity", 202),
    ("not gzip", GOOD, "gzip", 400),
    ("an empty gzip body", b"", "gzip", 400),
    ("half a gzip body", gzip.compress(GOOD)[:-9], "gzip", 400),
    ("a wrong checksum", gzip.compress(GOOD)[:-5] + b"\0\0\0\0\0", "gzip", 400),
    ("something after gzip", gzip.compress(GOOD) + b"x", "gzip", 400),
    ("a thousand gzip members", gzip.compress(b"") * 1000, "gzip", 400),
    ("not deflate", GOOD, "deflate", 400),
    ("not zstd", GOOD, "zstd", 400),
    ("half a zstd body", bytes(cramjam.zstd.compress(GOOD))[:-3], "zstd", 400),
    ("a gzip bomb", gzip.compress(TOO_LARGE), "gzip", 413),
    ("a zstd bomb", bytes(cramjam.zstd.compress(TOO_LARGE)), "zstd", 413),
    ("brotli", GOOD, "br", 415),
    ("gzip twice", gzip.compress(gzip.compress(GOOD)), "gzip, gzip", 415),
]


@pytest.mark.parametrize("path", ["/v1/llm/call", "/v1/llm/events"])
@pytest.mark.parametrize(("body", "coding", "status"), [row[1:] for row in CODED], ids=[row[0] for row in CODED])
async def test_content_encodings(site: Site, path: str, body: bytes, coding: str, status: int) -> None:
    answer = await site.http.post(path, data=body, headers={"Content-Encoding": coding})

    assert answer.status == status, await answer.text()
    assert list(site.written().values()) == ([[GOOD]] if status == 202 else [])
    if status != 202:
        assert answer.content_type == "application/problem+json"
    if status == 415:
        assert "zstd" in answer.headers["Accept-Encoding"]
    assert web.body._in_flight == 0, "its room is given back"


TYPES = [
    ("application/json", 202),
    ("application/json; charset=UTF-8", 202),
    ("application/x-ndjson", 202),
    ("application/cloudevents+json", 202),
    ("text/plain", 202),
    ("application/x-www-form-urlencoded", 202),
    (None, 202),
    ("application/json; charset=latin-1", 415),
    ("text/html", 415),
    ("application/xml", 415),
    ("application/x-protobuf", 415),
    ("multipart/form-data; boundary=x", 415),
]


@pytest.mark.parametrize(("content_type", "status"), TYPES)
async def test_content_types(site: Site, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    skip = ["Content-Type"] if content_type is None else []
    answer = await site.http.post("/v1/llm/call", data=GOOD, headers=headers, skip_auto_headers=skip)
    assert answer.status == status, await answer.text()
    assert len(site.written()) == (status == 202)


async def test_a_page_of_another_site_may_not_send(site: Site) -> None:
    answer = await site.http.post("/v1/llm/call", data=GOOD, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status, site.written()) == (403, {})


@pytest.mark.parametrize("path", ["/v1/llm/call", "/v1/llm/events"])
async def test_a_body_that_is_too_large_is_refused_before_it_is_read(site: Site, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".encode())
    assert await reader.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
    writer.close()


@pytest.mark.parametrize(("path", "size"), [("/v1/llm/call", MAX_EVENT_BYTES), ("/v1/llm/events", 16 << 20)])
async def test_a_chunked_body_is_bounded_too(site: Site, path: str, size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // 65536 + 1):
            yield b" " * 65536

    answer = await site.http.post(path, data=chunks())
    assert answer.status == 413


async def test_a_body_that_is_badly_chunked_is_the_clients_fault(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"POST /v1/llm/call HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert (await reader.readline()).split()[1] == b"400"
    writer.close()


class Broken:
    """A log that does not do what it should; that ours never would is no reason not to ask."""

    def __init__(self, offset: int | Exception) -> None:
        self.offset = offset

    async def append(self, batches: dict[TP, list[object]]) -> dict[TP, int]:
        if isinstance(self.offset, Exception):
            raise self.offset
        return dict.fromkeys(batches, self.offset)


@pytest.mark.parametrize("path", ["/v1/llm/call", "/v1/llm/events"])
@pytest.mark.parametrize(("offset", "wait"), [(-1, "1"), (Unavailable("full", retry_after_s=7), "7")])
async def test_nothing_is_accepted_that_the_log_did_not_confirm(
    tmp_path: Path, path: str, offset: int | Exception, wait: str
) -> None:
    before = counted("streamlens_events_total", kind="call", outcome="accepted")
    async with serving(tmp_path, log=Broken(offset)) as site:
        answer = await site.http.post(path, data=GOOD)
        assert (answer.status, answer.headers["Retry-After"]) == (503, wait)
        assert answer.content_type == "application/problem+json"
    assert counted("streamlens_events_total", kind="call", outcome="accepted") == before


async def test_before_the_start_is_over_senders_are_told_to_come_again(tmp_path: Path) -> None:
    async with serving(tmp_path, services=None) as site:
        answer = await site.http.post("/v1/llm/call", data=GOOD)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_bodies_at_once_have_a_bound_and_leave_their_room(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.body, "IN_FLIGHT_BYTES", len(GOOD) + 50)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"POST /v1/llm/call HTTP/1.1\r\nHost: x\r\nContent-Length: 51\r\n\r\n{")

    async def status_is(status: int) -> None:
        async with asyncio.timeout(5):
            while (await site.http.post("/v1/llm/call", data=GOOD)).status != status:
                pass

    await status_is(503)
    writer.write(b" " * 50)
    assert (await reader.readline()).split()[1] == b"400"
    await status_is(202)
    writer.close()


async def test_a_body_that_does_not_arrive_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.body, "READ_TIMEOUT_S", 0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"POST /v1/llm/call HTTP/1.1\r\nHost: x\r\nContent-Length: 51\r\n\r\n{")
    assert (await reader.readline()).split()[1] == b"408"
    writer.close()


async def test_a_large_body_gives_way_to_others(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setattr(web.ingest, "_SLICE_S", 0.0)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    arrival = Arrival(web.services.current(), NOW_US, NOW_US, b"{", ANYONE, "")
    await web.ingest._sorted(b"\n".join([GOOD] * 500), app.web.views["/v1/llm/events"], arrival)
    counting.cancel()
    assert turns >= 400
