"""OTLP over HTTP, as its specification has it: forms, encodings, answers, limits, and what lies in the log then."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import cramjam
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import web.body
from otlp_messages import AT, FORMS, GOOD, TRACE_ID, attributes, encoded, logs, metrics, span, traces
from streamlens.keys import Key, Keys, new_secret, sha256_of
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, UNKNOWN_OFFSET, Record
from streamlens.otlp.messages import JSON, LOGS, METRICS, PROTOBUF, SIGNALS, TRACES, Signal
from streamlens.ratelimit import RateLimit
from streamlens.settings import Settings
from web_server import Site, counted, serving


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


async def export(
    site: Site, signal: Signal, form: str, body: bytes | dict[str, Any], **headers: str
) -> aiohttp.ClientResponse:
    given = body if isinstance(body, bytes) else encoded(signal, form, body)
    sent = {"Content-Type": form} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.http.post(signal.path, data=given, headers=sent)


async def told(signal: Signal, answer: aiohttp.ClientResponse) -> tuple[int, str]:
    """How many items were rejected, and why, as an exporter reads it."""
    body = await answer.read()
    assert answer.status == 200, body
    if answer.content_type == JSON:
        partial = json.loads(body).get("partialSuccess", {})
        rejected = "".join(part.capitalize() for part in signal.rejected.split("_"))
        return int(partial.get(rejected[0].lower() + rejected[1:], "0")), partial.get("errorMessage", "")
    assert answer.content_type == PROTOBUF
    response = signal.response()
    response.ParseFromString(body)
    return getattr(response.partial_success, signal.rejected), response.partial_success.error_message


async def status_of(answer: aiohttp.ClientResponse) -> tuple[int, str]:
    """Code and message of a `google.rpc.Status`."""
    body = await answer.read()
    if answer.content_type == JSON:
        return json.loads(body)["code"], json.loads(body)["message"]
    assert (answer.content_type, body[0], body[2]) == (PROTOBUF, 8, 0x12)
    size = (body[3] & 0x7F) | body[4] << 7
    assert len(body) == 5 + size
    return body[1], body[5:].decode()


def written(site: Site) -> list[dict[str, Any]]:
    return [json.loads(value) for values in site.written().values() for value in values]


# -- the specification -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.path)
async def test_a_request_is_written_and_answered_in_its_form(site: Site, signal: Signal, form: str) -> None:
    answer = await export(site, signal, form, GOOD[signal.path]("acme"))
    assert (answer.status, answer.content_type) == (200, form)
    assert await answer.read() == (b"{}" if form == JSON else b"")
    assert len(written(site)) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.path)
async def test_an_empty_request_is_a_good_one(site: Site, signal: Signal, form: str) -> None:
    for body in [b"{}", b'{"resourceSpans":null}', b'{"unknown":[]}'] if form == JSON else [b""]:
        assert await told(signal, await export(site, signal, form, body)) == (0, "")
    assert written(site) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate", "zstd"])
async def test_each_encoding(site: Site, coding: str, form: str) -> None:
    body = encoded(TRACES, form, GOOD["/v1/traces"]("acme"))
    packed = {
        "identity": body,
        "gzip": gzip.compress(body),
        "deflate": bytes(cramjam.zlib.compress(body)),
        "zstd": bytes(cramjam.zstd.compress(body)),
    }
    assert await told(TRACES, await export(site, TRACES, form, packed[coding], Content_Encoding=coding)) == (0, "")
    assert len(written(site)) == 1


REFUSED: list[tuple[str, dict[str, str], bytes, int, int]] = [
    ("junk", {}, b"\xff\xff", 400, 3),
    ("not gzip", {"Content-Encoding": "gzip"}, b"x", 400, 3),
    ("an encoding nobody knows", {"Content-Encoding": "br"}, b"", 415, 3),
    ("a bomb", {"Content-Encoding": "gzip"}, gzip.compress(bytes(3 << 20)), 413, 8),
    ("another", {"Content-Encoding": "zstd"}, bytes(cramjam.zstd.compress(bytes(3 << 20))), 413, 8),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.path)
async def test_a_refusal_is_a_status_in_the_form_of_the_request(tmp_path: Path, signal: Signal, form: str) -> None:
    async with serving(tmp_path, settings=Settings(max_body_mib=1)) as site:
        for name, headers, body, status, code in REFUSED:
            answer = await site.http.post(signal.path, data=body, headers={"Content-Type": form} | headers)
            assert (answer.status, answer.content_type) == (status, form), name
            found = await status_of(answer)
            assert found[0] == code and found[1], name
        assert written(site) == []


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.path)
async def test_other_content_types_are_not_taken(site: Site, signal: Signal) -> None:
    for kind in ("text/plain", "application/x-ndjson", "application/octet-stream", "application/vnd.api+json"):
        answer = await export(site, signal, kind, b"{}")
        assert (answer.status, answer.content_type) == (415, "application/problem+json"), kind
        assert PROTOBUF in (await answer.json())["detail"]
    assert (await export(site, signal, f"{JSON}; charset=utf-8", b"{}")).status == 200
    assert (await export(site, signal, f"{JSON}; charset=latin-1", b"{}")).status == 415


JUNK = [
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"value":{"intValue":"%d"}}]}]}]}]}' % 2**63,
    b"",
    b"[]",
    b"null",
    b"{",
    b'{"resourceSpans":{}}',
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":1}]}]}]}',
]


async def test_json_that_is_no_request(site: Site) -> None:
    for body in (*JUNK, b'{"a":"\xff"}', b'{"a":' + b"[" * 100_000):
        answer = await export(site, TRACES, JSON, body)
        assert (answer.status, (await status_of(answer))[0]) == (400, 3), body[:60]


DENSE = {
    "spans": (PROTOBUF, b"\x0a\x80\x80\x40\x12\xfc\xff\x3f" + b"\x12\x00" * (1 << 19)),
    "groups": (PROTOBUF, b"\x0a\x00" * (1 << 19)),
    "spans as JSON": (JSON, b'{"resourceSpans":[{"scopeSpans":[{"spans":[{}' + b",{}" * (1 << 19) + b"]}]}]}"),
}


@pytest.mark.parametrize("dense", DENSE)
async def test_millions_of_empty_spans_are_refused_before_they_are_objects(site: Site, dense: str) -> None:
    form, body = DENSE[dense]
    answer = await export(site, TRACES, form, body)
    assert (answer.status, await status_of(answer)) == (400, (3, "more items than a body of this size can have"))
    few = {PROTOBUF: b"\x0a\x00" * 900, JSON: b'{"resourceSpans":[{}' + b",{}" * 900 + b"]}"}
    assert await told(TRACES, await export(site, TRACES, form, few[form])) == (0, "")


@pytest.mark.parametrize("body", [b"\x0a", b"\x0a\xff", b"\x0a\x05\x12", b"\x0b\x0c", b"\x0a" + b"\xff" * 20, b"\x07"])
async def test_protobuf_that_ends_early_or_makes_no_sense(site: Site, body: bytes) -> None:
    answer = await export(site, TRACES, PROTOBUF, body)
    assert (answer.status, (await status_of(answer))[0]) == (400, 3)


@pytest.mark.parametrize("nested", ["array", "object"])
async def test_deep_values_do_no_harm(site: Site, nested: str) -> None:
    opens, closes = {
        "array": (b'{"arrayValue":{"values":[', b"]}}"),
        "object": (b'{"kvlistValue":{"values":[{"key":"a","value":', b"}]}}"),
    }[nested]
    value = opens * 300 + b'{"intValue":1}' + closes * 300
    body = encoded(LOGS, JSON, GOOD["/v1/logs"]("acme")).replace(b'{"stringValue": "hello"}', value)
    assert (await export(site, LOGS, JSON, body)).status in (200, 400)
    assert (
        await export(site, LOGS, JSON, body.replace(value, opens * 9 + b'{"intValue":1}' + closes * 9))
    ).status == 200
    assert {line["message"].count("1") for line in written(site)} <= {0, 1}


async def test_what_is_sent_to_another_signals_path(site: Site) -> None:
    for sent in SIGNALS:
        for signal in SIGNALS:
            if signal is not sent:
                answer = await export(site, signal, JSON, encoded(sent, JSON, GOOD[sent.path]("acme")))
                assert answer.status == 400
                assert await status_of(answer) == (3, f"these are {sent.noun}; they go to {sent.path}")
    for sent in (LOGS, METRICS):
        answer = await export(site, TRACES, PROTOBUF, encoded(sent, PROTOBUF, GOOD[sent.path]("acme")))
        assert answer.status == 400
        code, message = await status_of(answer)
        assert code == 3 and ("log records or metrics" in message or "not a protobuf" in message)
    assert written(site) == []


async def test_a_get_of_the_rows_stays(site: Site) -> None:
    for path in ("/v1/traces", "/v1/logs"):
        assert (await site.http.get(path)).status == 405
    answer = await site.http.get("/v1/metrics", params={"step": "2m"}, headers={"Content-Type": JSON})
    assert (answer.status, answer.content_type) == (400, "application/problem+json")


# -- spans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_of_512_spans_a_bad_one_is_named_and_the_others_count(site: Site, form: str) -> None:
    spans = [span(number) for number in range(1, 513)]
    spans[99] = span(100, {"gen_ai.usage.input_tokens": -1})
    before = counted("streamlens_events_total", kind="span", outcome="accepted")

    answer = await export(site, TRACES, form, traces(*spans))

    why = f'span {TRACE_ID}:{100:016x} "chat m-1": gen_ai.usage.input_tokens: Expected `int` >= 0'
    assert await told(TRACES, answer) == (1, f"1 not taken: {why}")
    assert len({call["request_id"] for call in written(site)}) == len(written(site)) == 511
    assert counted("streamlens_events_total", kind="span", outcome="accepted") == before + 511


@pytest.mark.parametrize("form", FORMS)
async def test_only_some_bad_ones_are_named(site: Site, form: str) -> None:
    bad = [span(number, {"gen_ai.usage.output_tokens": "many"}) for number in range(1, 101)]
    rejected, message = await told(TRACES, await export(site, TRACES, form, traces(*bad)))
    assert (rejected, message.count("gen_ai.usage.output_tokens"), len(message) < 4096) == (100, 10, True)
    assert written(site) == []


async def test_what_json_may_leave_out_or_have_besides(site: Site) -> None:
    odd = span(1, kind=None, flags=257, droppedAttributesCount=None, links=[{"x": 1}], unknown={"a": [1]})
    odd["attributes"] += [{"key": "no value"}, {"key": "null", "value": None}, {"value": {"stringValue": "no key"}}]
    odd["attributes"] += [
        {"key": "odd", "value": {"futureValue": 1}},
        {"key": "bytes", "value": {"bytesValue": "AA=="}},
    ]
    odd["attributes"] += attributes({"streamlens.route": "null"})
    odd["attributes"] += [{"key": "gen_ai.usage.output_tokens", "value": {"doubleValue": "seven"}}]
    odd["traceId"], odd["status"], odd["startTimeUnixNano"] = TRACE_ID.upper(), None, int(odd["startTimeUnixNano"])
    document = traces(odd) | {"unknown": None}
    document["resourceSpans"] += [
        {"resource": None, "scopeSpans": None},
        {"scopeSpans": [{"spans": None, "scope": {}}]},
    ]
    assert await told(TRACES, await export(site, TRACES, JSON, document)) == (0, "")
    (call,) = written(site)
    assert (call["request_id"], call["prompt_tokens"], call["route"]) == (f"{TRACE_ID}:{1:016x}", 3, "null")


async def test_one_response_seen_by_two_is_one_record_key(site: Site) -> None:
    """The application's span and the proxy's meet in one partition, where the second is a duplicate."""
    for form in FORMS:
        both = traces(span(1, {"gen_ai.response.id": "r-1"}), span(2, {"gen_ai.response.id": "r-1"}))
        assert await told(TRACES, await export(site, TRACES, form, both)) == (0, "")
    (values,) = site.written().values()
    assert [json.loads(value)["request_id"] for value in values] == ["r-1"] * 4


async def test_other_spans_are_taken_and_only_counted(site: Site) -> None:
    before = counted("streamlens_events_total", kind="span", outcome="ignored")
    tool = span(2, {"gen_ai.operation.name": "execute_tool"})
    assert await told(TRACES, await export(site, TRACES, PROTOBUF, traces(span(1), tool))) == (0, "")
    assert len(written(site)) == 1
    assert counted("streamlens_events_total", kind="span", outcome="ignored") == before + 1


async def test_a_span_from_the_future_is_bad(site: Site) -> None:
    far = span(1, startTimeUnixNano="1800000000000000000", endTimeUnixNano="1800000000000000001")
    rejected, message = await told(TRACES, await export(site, TRACES, PROTOBUF, traces(far)))
    assert rejected == 1 and "in the future" in message


async def test_the_sender_is_the_exporter(site: Site) -> None:
    await export(site, TRACES, PROTOBUF, GOOD["/v1/traces"]("acme"), User_Agent="OTel-OTLP-Exporter-Python/1.36.0")
    assert [call["sender"] for call in written(site)] == ["OTel-OTLP-Exporter-Python/1.36.0"]


# -- logs and metrics --------------------------------------------------------------------------------------------------

RECORDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a body and a severity",
     {"body": {"stringValue": "hi"}, "severityNumber": 17, "timeUnixNano": "1782999990000001000"},
     {"message": "hi", "level": "ERROR", "timestamp": "2026-07-02T13:46:30.000001Z", "service": "shop",
      "tenant_id": "acme"}),
    ("no time: that of receipt", {"body": {"stringValue": "hi"}},
     {"timestamp": "2026-07-02T13:46:40Z", "level": "INFO"}),
    ("the time at which it was seen", {"observedTimeUnixNano": "1782999990000000000"},
     {"timestamp": "2026-07-02T13:46:30Z", "message": ""}),
    ("a severity as text", {"severityText": "warn"}, {"level": "WARNING"}),
    ("one that nobody knows", {"severityText": "loud"}, {"level": "INFO"}),
    ("the worst", {"severityNumber": 24}, {"level": "CRITICAL"}),
    ("an error still", {"severityNumber": 20}, {"level": "ERROR"}),
    ("just a warning", {"severityNumber": 13}, {"level": "WARNING"}),
    ("the least", {"severityNumber": 1}, {"level": "DEBUG"}),
    ("an event of a model",
     {"eventName": "gen_ai.user.message", "traceId": TRACE_ID, "spanId": "00000000000000aa",
      "body": {"kvlistValue": {"values": attributes({"content": "hi"})}},
      "attributes": attributes({"gen_ai.system": "openai", "gen_ai.response.id": "r-1", "session.id": "s",
                                "tenant.id": "t"})},
     {"message": '{"content":"hi"}', "request_id": "r-1", "session_id": "s", "tenant_id": "t",
      "attributes": {"event.name": "gen_ai.user.message", "trace_id": TRACE_ID, "span_id": "00000000000000aa",
                     "gen_ai.system": "openai", "gen_ai.response.id": "r-1", "session.id": "s", "tenant.id": "t"}}),
    ("nothing but a name", {"eventName": "gen_ai.choice"}, {"message": "gen_ai.choice"}),
    ("a long body is cut between characters", {"body": {"stringValue": "ü" * 5000}}, {"message": "ü" * 4096}),
    ("what is nested becomes JSON", {"attributes": attributes({"a": [1, "x"], "b": True, "c": 1.5})},
     {"attributes": {"a": '[1,"x"]', "b": True, "c": 1.5}}),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("record", "meant"), [row[1:] for row in RECORDS], ids=[row[0] for row in RECORDS])
async def test_a_log_record_is_a_line(site: Site, form: str, record: dict[str, Any], meant: dict[str, Any]) -> None:
    assert await told(LOGS, await export(site, LOGS, form, logs(record))) == (0, "")
    (line,) = written(site)
    assert {field: line.get(field) for field in meant} == meant


@pytest.mark.parametrize("form", FORMS)
async def test_what_does_not_fit_into_a_line_is_left_out(site: Site, form: str) -> None:
    huge = {"prompt": '"' * 9000} | {f"k{number}": "\n" * 200 for number in range(50)} | {"\0": 1, "last": "x\0y"}
    assert await told(LOGS, await export(site, LOGS, form, logs({"attributes": attributes(huge)}))) == (0, "")
    (line,) = written(site)
    assert "prompt" in line["attributes"] and len(json.dumps(line["attributes"])) < 5000


@pytest.mark.parametrize("form", FORMS)
async def test_a_bad_record_is_named(site: Site, form: str) -> None:
    early = {"timeUnixNano": "1", "body": {"stringValue": "old"}}
    rejected, message = await told(LOGS, await export(site, LOGS, form, logs(early, {"eventName": "new"})))
    assert rejected == 1 and 'log record "old": timestamp: not between the years 2000 and 9999' in message
    assert [line["message"] for line in written(site)] == ["new"]


@pytest.mark.parametrize("form", FORMS)
async def test_points_are_measurements_and_histograms_are_not_taken(site: Site, form: str) -> None:
    tags = attributes({"host": "g-1", "slot": 3})
    document = metrics(
        {
            "name": "gpu",
            "unit": "1",
            "gauge": {"dataPoints": [{"asDouble": 0.5, "timeUnixNano": AT, "attributes": tags}]},
        },
        {"name": "jobs", "sum": {"dataPoints": [{"asInt": "7", "timeUnixNano": AT}, {"timeUnixNano": AT, "flags": 1}]}},
        {"name": "lag", "histogram": {"dataPoints": [{"count": "1"}, {"count": "2"}]}},
        {"name": "odd", "gauge": {"dataPoints": [{"asDouble": "NaN", "timeUnixNano": AT}]}},
        {"name": "empty"},
    )
    rejected, message = await told(METRICS, await export(site, METRICS, form, document))
    assert rejected == 3
    assert 'metric "lag": data points of kind histogram are not taken' in message and 'metric "odd": value' in message
    usual = {"timestamp": "2026-07-02T13:46:30Z", "tenant_id": "acme"}
    assert sorted(written(site), key=lambda each: str(each["name"])) == [
        {**usual, "name": "gpu", "unit": "1", "value": 0.5, "tags": {"service.name": "shop", "host": "g-1", "slot": 3}},
        {**usual, "name": "jobs", "unit": "", "value": 7.0, "tags": {"service.name": "shop"}},
    ]


# -- keys, limits, overload --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_a_key_stamps_its_tenant_and_refuses_others(tmp_path: Path, form: str) -> None:
    secret = new_secret()

    async def load(_: int) -> tuple[int, list[Key]]:
        return 1, [Key(1, sha256_of(secret), "acme", frozenset(["ingest"]))]

    keys = Keys(load)
    await keys.refresh()
    async with serving(tmp_path, keys=keys, settings=Settings(auth="keys")) as site:
        for headers, status, code in (({}, 401, 16), ({"X_API_Key": "sl_x"}, 401, 16)):
            answer = await export(site, TRACES, form, GOOD["/v1/traces"]("acme"), **headers)
            assert (answer.status, (await status_of(answer))[0]) == (status, code)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        document = traces(span(1), span(2, {"tenant.id": "other"}), span(3, {"tenant.id": "acme"}))
        rejected, message = await told(TRACES, await export(site, TRACES, form, document, X_API_Key=secret))
        assert rejected == 1 and "tenant.id: not the tenant of this key" in message
        assert {call["tenant_id"] for call in written(site)} == {"acme"} and len(written(site)) == 2


@pytest.mark.parametrize("form", FORMS)
async def test_too_many_are_answered_503_and_when_to_come_again(tmp_path: Path, form: str) -> None:
    async with serving(tmp_path, rate_limit=RateLimit(1.0, lambda: 0.0)) as site:
        assert (await export(site, TRACES, form, traces(*map(span, range(1, 11))))).status == 200
        answer = await export(site, TRACES, form, traces(span(11), span(12)))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert (await status_of(answer))[0] == 14
        assert len(written(site)) == 10


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.path)
async def test_what_is_not_durable_is_not_acknowledged(
    site: Site, signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def append(self: LocalLog, batches: dict[TP, list[Record]]) -> dict[TP, int]:
        return dict.fromkeys(batches, UNKNOWN_OFFSET)

    accepted = {"kind": signal.counted_as, "outcome": "accepted"}
    before = counted("streamlens_events_total", **accepted)
    monkeypatch.setattr(LocalLog, "append", append)
    answer = await export(site, signal, PROTOBUF, GOOD[signal.path]("acme"))
    assert (answer.status, answer.headers["Retry-After"], (await status_of(answer))[0]) == (503, "1", 14)
    assert counted("streamlens_events_total", **accepted) == before


async def test_a_full_house_is_503_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.body, "IN_FLIGHT_BYTES", 0)
    answer = await export(site, TRACES, PROTOBUF, GOOD["/v1/traces"]("acme"))
    assert (answer.status, answer.headers["Retry-After"], (await status_of(answer))[0]) == (503, "1", 14)


async def test_before_the_start_is_over_it_is_503(tmp_path: Path) -> None:
    async with serving(tmp_path, services=None) as site:
        answer = await export(site, TRACES, PROTOBUF, GOOD["/v1/traces"]("acme"))
        assert (answer.status, answer.content_type, "Retry-After" in answer.headers) == (503, PROTOBUF, True)


async def test_an_exporter_that_is_told_to_wait_loses_nothing(tmp_path: Path) -> None:
    """A real exporter, and a clock that jumps on after the first refusal."""
    seconds = iter([0.0, 0.0, *[100.0] * 100])
    async with serving(tmp_path, rate_limit=RateLimit(10.0, lambda: next(seconds)), clock_us=_now_us) as site:

        def send() -> None:
            provider = TracerProvider()
            exporter = OTLPSpanExporter(f"http://127.0.0.1:{site.port}/v1/traces")
            provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=100))
            tracer = provider.get_tracer("test")
            for number in range(110):
                said = {"gen_ai.operation.name": "chat", "gen_ai.response.id": f"r-{number}"}
                tracer.start_span("chat", attributes=said).end()
            provider.shutdown()

        before = counted("streamlens_http_requests_total", route="/v1/traces", status="503")
        await asyncio.to_thread(send)
        assert counted("streamlens_http_requests_total", route="/v1/traces", status="503") > before
        assert {call["request_id"] for call in written(site)} == {f"r-{number}" for number in range(110)}


def _now_us() -> int:
    return time.time_ns() // 1000
