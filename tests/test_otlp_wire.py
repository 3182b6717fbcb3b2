"""Attributes of spans, read from their bytes, are what protobuf's own classes make of them."""

from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from otlp_messages import encoded, span, traces
from streamlens.dialects import KNOWN
from streamlens.errors import BadEvent
from streamlens.otlp import wire
from streamlens.otlp.messages import PROTOBUF, TRACES, decode
from streamlens.otlp.values import attributes_of
from streamlens.otlp.wire import known_attributes_of

MODEL, TOKENS = "gen_ai.response.model", "gen_ai.usage.input_tokens"
VALUES: list[dict[str, Any]] = [
    {},
    *(
        {"string_value": text}
        for text in ("", "m", "é" * 60, *("m" * size for size in (3, 100, 125, 126, 127, 128, 9000)))
    ),
    *({"int_value": number} for number in (0, 1, 127, 128, 300, 16_383, 16_384, -1, 2**63 - 1, -(2**63))),
    *({"double_value": number} for number in (0.0, -1.5, float("inf"))),
    *({"bool_value": each} for each in (False, True)),
    {"bytes_value": b"\xff"},
    {"array_value": ArrayValue(values=[AnyValue(string_value="a"), AnyValue(int_value=1), AnyValue()])},
    {"kvlist_value": KeyValueList(values=[KeyValue(key="a", value=AnyValue(bool_value=True))])},
]


def both(*raws: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is read, and what it should be."""
    return known_attributes_of(list(raws)), attributes_of(map(KeyValue.FromString, raws), KNOWN)


@pytest.mark.parametrize("key", [MODEL, "k", "", "k" * 127, "k" * 128, MODEL + "s", MODEL[:-1]])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_an_attribute(key: str, value: dict[str, Any]) -> None:
    read, meant = both(KeyValue(key=key, value=AnyValue(**value)).SerializeToString())
    assert read == meant and list(map(type, read.values())) == list(map(type, meant.values()))


ODD = {
    "the value first": b"\x12\x03\n\x01m\n\x15" + MODEL.encode(),
    "sizes of more bytes than they need": b"\n\x95\x00" + MODEL.encode() + b"\x12\x84\x00\n\x81\x00m",
    "another field first": b"\x1a\x01x\n\x15" + MODEL.encode() + b"\x12\x03\n\x01m",
    "another field last": b"\n\x15" + MODEL.encode() + b"\x12\x03\n\x01m\x1a\x01x",
    "another field in the value": b"\n\x15" + MODEL.encode() + b"\x12\x05\n\x01m\x48\x01",
    "the value twice, the last counts": b"\n\x15" + MODEL.encode() + b"\x12\x03\n\x01a\x12\x03\n\x01m",
    "nothing": b"",
    "no value, but another field": b"\n\x15" + MODEL.encode() + b"\x22\x03\n\x01m",
    "no value": b"\n\x15" + MODEL.encode(),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_attribute_as_encoders_do_not_write_it(odd: str) -> None:
    read, meant = both(ODD[odd])
    assert read == meant == ({} if odd.startswith("no") else {MODEL: "m"})


def test_a_number_of_more_bytes_than_it_needs_or_of_two_fields() -> None:
    head = b"\n\x19" + TOKENS.encode()
    for value, number in ((b"\x12\x03\x18\x85\x00", 5), (b"\x12\x04\x18\x07\x18\x05", 5)):
        read, meant = both(head + value)
        assert read == meant == {TOKENS: number}


def test_the_first_of_a_name_that_has_a_value_counts() -> None:
    texts = [b"\n\x15" + MODEL.encode() + value for value in (b"", b"\x12\x00", b"\x12\x03\n\x01a", b"\x12\x03\n\x01b")]
    read, meant = both(*texts)
    assert read == meant == {MODEL: "a"}


BROKEN = {
    "a text that is not UTF-8": b"\x12\x03\n\x01\xff",
    "a long one": b"\x12\xca\x01\n\xc7\x01" + b"\xff" * 199,
    "a value that ends early": b"\x12\x09\n\x01m",
    "a text that is longer than its value": b"\x12\x02\n\x01m",
    "a text that ends early": b"\x12\x03\n\x02m",
    "a number that ends early": b"\x12\x03\x18\x80\x80",
    "a number and a stray byte": b"\x12\x03\x18\x05\x08",
    "sizes that go on": b"\x12\x82\n\x80" + b"m" * 128,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_attribute_makes_its_span_bad_if_anybody_reads_it(broken: str) -> None:
    raw = b"\n\x15" + MODEL.encode() + BROKEN[broken]
    with pytest.raises(BadEvent, match="attributes"):
        known_attributes_of([raw])
    request = decode(TRACES, PROTOBUF, encoded(TRACES, PROTOBUF, traces(span(1), span(2), span(3))))
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[1].attributes.append(raw)
    spans[2].attributes.append(raw.replace(MODEL.encode(), MODEL.upper().encode()))
    good, bad, other = TRACES.read(request, None, 0)
    assert isinstance(good[1], bytes) and isinstance(other[1], bytes)
    assert isinstance(bad[1], BadEvent) and f"{2:016x}" in TRACES.refusal(*bad)


def test_no_more_is_remembered_than_so_many_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_MOST_SEEN", 3)
    monkeypatch.setattr(wire, "_seen", {})
    for text in ("a", "b", "b", "c", "m" * 200, "d", "a"):
        raw = KeyValue(key=MODEL, value=AnyValue(string_value=text)).SerializeToString()
        assert known_attributes_of([raw]) == {MODEL: text}
    assert [pair and pair[1] for pair in wire._seen.values()] == ["d", "a"]


def test_what_means_nothing_or_is_known_makes_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    class Counting:
        @staticmethod
        def FromString(raw: bytes) -> KeyValue:
            parsed.append(raw)
            return KeyValue.FromString(raw)

    monkeypatch.setattr(wire, "KeyValue", Counting)
    said = {
        "a.prompt": "x" * 500,
        "an.id": "1",
        MODEL: "a model of this test",
        TOKENS: 7_654_321,
        "gen_ai.usage.output_tokens": 300,
    }
    for number in (1, 2):
        request = decode(TRACES, PROTOBUF, encoded(TRACES, PROTOBUF, traces(span(number, said))))
        assert all(isinstance(call, bytes) for _, call in TRACES.read(request, None, 0))
    assert [
        raw for raw in parsed if b"prompt" in raw or b"an.id" in raw or MODEL.encode() in raw or b"output" in raw
    ] == []
    assert len([raw for raw in parsed if TOKENS.encode() in raw]) == 1
