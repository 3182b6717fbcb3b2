"""Facets: what a call says besides route and model, as it is counted."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlens.events import Request, Response
from streamlens.facets import FACETS, Facets, experiment_of, variant_value, version_of
from streamlens.fields import Experiment
from streamlens.join import RequestHalf, ResponseHalf, decode_half, encode_half

BASE = {"request_id": "r", "tenant_id": "t", "route": "c", "model": "m", "timestamp": 1_790_000_000_000}
CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ({}, {}, {}),
    ({"provider": "openai"}, {}, {"provider": "openai"}),
    (
        {"experiment": {"name": "a/b\\", "variant": "x/y"}},
        {},
        {"experiment": "a/b\\", "variant": "a\\/b\\\\/x/y"},
    ),
    ({"prompt_version": "v1", "model_version": "m1"}, {}, {"prompt_version": "v1", "model_version": "m1"}),
    ({"region": "", "client": {"os": "x"}, "metadata": {}}, {"finish_reason": ""}, {}),
    ({"region": "eu", "client": {"app": "ios"}}, {}, {"region": "eu", "client_app": "ios"}),
    ({"metadata": {"country": "DE", "experiment": "no"}}, {}, {"country": "DE"}),
    ({"metadata": {"country": 49}}, {}, {}),
    ({"metadata": {"country": "x" * 257}}, {}, {}),
    ({}, {"finish_reason": "stop"}, {"finish_reason": "stop"}),
    ({}, {"error_type": "out of luck"}, {"error_type": "other"}),
    ({}, {"error": "it broke"}, {"error_type": "other"}),
    ({"sender": "app"}, {"sender": "proxy"}, {"sender": "app"}),
    ({}, {"sender": "proxy"}, {"sender": "proxy"}),
]


def found(facets: Facets, asked: dict[str, Any], answered: dict[str, Any]) -> dict[str, str]:
    request = RequestHalf.of(msgspec.convert(BASE | asked, Request), 0, facets)
    response = ResponseHalf.of(
        msgspec.convert({"request_id": "r", "timestamp": 1_790_000_000_000} | answered, Response), 0, facets
    )
    assert (decode_half(encode_half(request)), decode_half(encode_half(response))) == (request, response)
    texts = facets.of_call(request.provider, request.facets, response.facets, response.error_type)
    return dict(text.split("\0") for text in texts)


@pytest.mark.parametrize(("asked", "answered", "expected"), CASES)
def test_what_a_call_says(asked: dict[str, Any], answered: dict[str, Any], expected: dict[str, str]) -> None:
    facets = Facets()
    assert found(facets, asked, answered) == expected
    assert found(facets, asked, answered) == expected, "and again, from what is remembered"
    assert set(expected) <= set(FACETS)


@pytest.mark.parametrize(
    ("model", "version", "counts_as"),
    [
        ("gpt-5", "2026-08", "gpt-5/2026-08"),
        ("meta/llama\\", "1/2\\", "meta\\/llama\\\\/1/2\\"),
        ("m" * 250, "12345", "m" * 250 + "/12345"),
        ("m" * 250, "123456", ""),
    ],
)
def test_a_version_counts_with_its_model(model: str, version: str, counts_as: str) -> None:
    assert version_of(model, version) == counts_as


def test_only_what_is_kept_is_counted_also_of_halves_that_waited_when_more_was() -> None:
    asked = {"region": "eu", "sender": "app", "provider": "openai"}
    assert found(Facets(("region",)), asked, {"finish_reason": "stop"}) == {"region": "eu"}
    assert found(Facets(()), asked, {"error_type": "timeout"}) == {}
    older = Facets().of_request(msgspec.convert(BASE | asked, Request))
    assert Facets(("sender",)).of_call("openai", older, (), None) == ("sender\0app",)


def test_calls_that_say_the_same_share_one_value_and_those_that_say_nothing_have_none() -> None:
    facets = Facets()
    one, other = (facets.of_request(msgspec.convert(BASE | {"region": "eu"}, Request)) for _ in range(2))
    assert one is other
    assert facets.of_request(msgspec.convert(BASE, Request)) == ()
    assert facets.of_request(msgspec.convert(BASE | {"metadata": {"a": 1}}, Request)) == ()


def test_what_is_remembered_is_bounded() -> None:
    facets = Facets()
    for number in range(10_000):
        facets.of_request(msgspec.convert(BASE | {"region": f"region {number}"}, Request))
    assert len(facets._asked) <= 4_096


def test_a_half_without_facets_is_read_as_it_was_written_before_there_were_any() -> None:
    old = msgspec.msgpack.encode(["q", 1, "t", "r", "m", None, 5])
    assert decode_half(old) == RequestHalf(1, "t", "r", "m", None, 5)


@given(st.text("ab/\\\n", min_size=1, max_size=6), st.text("ab/\\\n", min_size=1, max_size=6))
def test_a_variant_tells_its_experiment(name: str, variant: str) -> None:
    assert experiment_of(variant_value(Experiment(name, variant))) == Experiment(name, variant)


def test_what_names_no_variant_is_of_no_experiment() -> None:
    assert experiment_of("__other__") is None


@pytest.mark.parametrize(
    ("kept", "length", "expected"), [(FACETS, 250, True), (FACETS, 251, False), (("experiment",), 1, False)]
)
def test_calls_and_evaluations_have_a_variant_alike(kept: tuple[str, ...], length: int, expected: bool) -> None:
    facets, experiment = Facets(kept), {"name": "n" * length, "variant": "after"}
    of_call = found(facets, {"experiment": experiment}, {}).get("variant")
    assert facets.variant_of(Experiment(**experiment)) == of_call
    assert (of_call is not None) is expected
