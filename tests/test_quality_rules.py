"""What a call's two halves say together: which rules are broken, what is repaired, and that spellings cost the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlens import quality
from streamlens.events import Call, Request, Response, decode
from streamlens.facets import Facets
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.pricing import Prices
from streamlens.quality import RULES, usage_of
from streamlens.usage import Usage

MS = 1_790_000_000_000
PRICES = Prices()
FACETS = Facets()


def halves(asked: dict[str, Any], answered: dict[str, Any]) -> tuple[RequestHalf, ResponseHalf]:
    """A call by `openai` of 100 + 20 tokens that takes a second; fields as given, None leaves one out."""
    request = {"request_id": "r", "tenant_id": "acme", "route": "chat", "model": "gpt-4o", "timestamp": MS}
    request |= {"provider": "openai", "prompt_tokens": 100} | asked
    response = {"request_id": "r", "timestamp": MS + 1000, "completion_tokens": 20} | answered
    first, second = (json.dumps({k: v for k, v in e.items() if v is not None}).encode() for e in (request, response))
    one, other = decode("request", first), decode("response", second)
    assert isinstance(one, Request)
    assert isinstance(other, Response)
    at = [event.timestamp * 1000 for event in (one, other) if isinstance(event.timestamp, int)]
    return RequestHalf.of(one, at[0], FACETS), ResponseHalf.of(other, at[1], FACETS)


def used(asked: dict[str, Any], answered: dict[str, Any]) -> Usage:
    return usage_of(*halves(asked, answered))


CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ("nothing is wrong", {}, {}, {"prompt_tokens": 100, "latency_us": 1_000_000}, ()),
    ("the response's prompt tokens win", {}, {"prompt_tokens": 7}, {"prompt_tokens": 7}, ()),
    ("also when they are 0", {}, {"prompt_tokens": 0}, {"prompt_tokens": 0}, ()),
    ("or when only it has them", {"prompt_tokens": None}, {"prompt_tokens": 9}, {"prompt_tokens": 9}, ()),
    ("no provider", {"provider": None}, {}, {}, ("provider_missing",)),
    ("no prompt tokens", {"prompt_tokens": None}, {}, {"prompt_tokens": 0}, ("prompt_tokens_missing",)),
    ("no completion", {}, {"completion_tokens": None}, {"completion_tokens": 0}, ("completion_tokens_missing",)),
    ("0 is not missing", {"prompt_tokens": 0}, {"completion_tokens": 0}, {}, ()),
    ("an error has no tokens", {"prompt_tokens": None}, {"completion_tokens": None, "error": "gone"}, {}, ()),
    ("120 s are slow", {}, {"latency_ms": 120_000}, {"latency_us": 120_000_000}, ()),
    ("more are odd", {}, {"latency_ms": 120_000.001}, {"latency_us": 120_000_001}, ("latency_long",)),
    ("also between timestamps", {}, {"timestamp": MS + 120_001}, {"latency_us": 120_001_000}, ("latency_long",)),
    ("answered at once", {}, {"timestamp": MS}, {"latency_us": 0}, ()),
    ("answered before", {}, {"timestamp": MS - 1}, {"latency_us": 0}, ("response_before_request",)),
    ("also with a latency", {}, {"timestamp": MS - 1, "latency_ms": 5}, {}, ("response_before_request",)),
    ("the first token is the last", {}, {"ttft_ms": 1000}, {"ttft_us": 1_000_000}, ()),
    ("the first token after the end", {}, {"ttft_ms": 1000.001}, {"ttft_us": None}, ("ttft_after_end",)),
    ("all is cached", {}, {"cached_tokens": 60, "cache_write_tokens": 40}, {"prompt_tokens": 100}, ()),
    (
        "more cached than there is",
        {},
        {"cached_tokens": 61, "cache_write_tokens": 40},
        {"prompt_tokens": 201, "cached_tokens": 61, "cache_write_tokens": 40},
        ("cache_apart",),
    ),
    (
        "Anthropic's names are always apart",
        {},
        {"cache_read_input_tokens": 30, "cache_creation_input_tokens": 5},
        {"prompt_tokens": 135, "cached_tokens": 30, "cache_write_tokens": 5},
        (),
    ),
    ("one of them is enough", {}, {"cache_read_input_tokens": 3}, {"prompt_tokens": 103, "cached_tokens": 3}, ()),
    (
        "our names win over Anthropic's",
        {},
        {"cached_tokens": 30, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 5},
        {"prompt_tokens": 100, "cached_tokens": 30, "cache_write_tokens": 0},
        (),
    ),
    ("all is reasoning", {}, {"reasoning_tokens": 20}, {"completion_tokens": 20, "reasoning_tokens": 20}, ()),
    ("more reasoning", {}, {"reasoning_tokens": 21}, {"completion_tokens": 41}, ("reasoning_apart",)),
    ("the total adds up", {}, {"total_tokens": 120}, {}, ()),
    ("it does not", {}, {"total_tokens": 119}, {"prompt_tokens": 100}, ("total_tokens_differ",)),
    (
        "it does once repaired",
        {},
        {"total_tokens": 250, "cached_tokens": 110, "reasoning_tokens": 20},
        {"prompt_tokens": 210},
        ("cache_apart", "total_tokens_differ"),
    ),
    (
        "it does with both apart",
        {},
        {"total_tokens": 261, "cached_tokens": 110, "reasoning_tokens": 31},
        {"prompt_tokens": 210, "completion_tokens": 51},
        ("cache_apart", "reasoning_apart"),
    ),
    (
        "much is wrong at once",
        {"provider": None, "prompt_tokens": None},
        {"timestamp": MS - 5, "cached_tokens": 8, "ttft_ms": 1, "completion_tokens": None},
        {"prompt_tokens": 8, "ttft_us": None},
        (
            "provider_missing",
            "prompt_tokens_missing",
            "completion_tokens_missing",
            "response_before_request",
            "ttft_after_end",
            "cache_apart",
        ),
    ),
]


@pytest.mark.parametrize(
    ("asked", "answered", "numbers", "warnings"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_rule(asked: dict[str, Any], answered: dict[str, Any], numbers: dict[str, Any], warnings: Any) -> None:
    found = used(asked, answered)
    assert found.warnings == warnings
    assert {name: getattr(found, name) for name in numbers} == numbers


def test_every_rule_has_a_case_and_a_line_in_the_docs() -> None:
    names = [rule.name for rule in RULES]
    assert sorted({name for *_, warnings in CASES for name in warnings}) == sorted(set(names)) == sorted(names)
    lines = (Path(__file__).parents[1] / "docs/api.md").read_text("utf-8").splitlines()
    assert [rule.name for rule in RULES if f"| `{rule.name}` | {rule.broken} | {rule.repaired} |" not in lines] == []


COUNT = st.integers(0, 5)
OPTIONAL = st.none() | COUNT
RESPONSES = st.builds(
    ResponseHalf,
    st.sampled_from([0, 3, 130_000_000]),
    *(st.none(), st.none(), OPTIONAL, OPTIONAL, OPTIONAL, COUNT, COUNT, COUNT),
    st.none() | st.just("timeout"),
    st.none(),
    OPTIONAL,
    st.just(0) | COUNT,
    st.none() | st.integers(0, 12),
)


@given(st.builds(RequestHalf, st.just(2), *[st.just("x")] * 3, st.none() | st.just("x"), OPTIONAL), RESPONSES)
def test_the_short_way_says_what_the_rules_say_and_all_invariants_hold(
    request: RequestHalf, response: ResponseHalf
) -> None:
    found = usage_of(request, response)
    assert found == quality._looked_at(request, response)
    assert found.cached_tokens + found.cache_write_tokens <= found.prompt_tokens
    assert found.reasoning_tokens <= found.completion_tokens
    assert (found.ttft_us or 0) <= found.latency_us


SPELLINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # OpenAI: prompt_tokens, and prompt_tokens_details.cached_tokens in it
    ({"prompt_tokens": 17_903}, {"cached_tokens": 17_817}),
    ({"prompt_tokens": None}, {"prompt_tokens": 17_903, "cached_tokens": 17_817, "total_tokens": 17_923}),
    # Anthropic: input_tokens, and the cache beside it
    ({"prompt_tokens": None}, {"prompt_tokens": 86, "cache_read_input_tokens": 17_817}),
    ({"prompt_tokens": 86}, {"cache_read_input_tokens": 17_817, "cache_creation_input_tokens": 0}),
    # Anthropic's numbers under our names
    ({"prompt_tokens": 86}, {"cached_tokens": 17_817}),
]


@pytest.mark.parametrize(("asked", "answered"), SPELLINGS)
def test_one_call_costs_the_same_however_its_usage_is_spelt(asked: dict[str, Any], answered: dict[str, Any]) -> None:
    model = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
    request, response = halves(asked | model, answered)
    found = usage_of(request, response)
    cost, rates = PRICES.of_call(request, response, found)
    assert rates is not None
    assert found.prompt_tokens - found.cached_tokens == 86
    # $3, $0.30 and $15 a million tokens
    assert cost == 86 * 3_000_000 + 17_817 * 300_000 + 20 * 15_000_000


def test_cached_tokens_below_the_fresh_ones_need_anthropics_names() -> None:
    """By numbers alone nobody can tell whether 40 of 100 tokens are cached, or 40 beside 100."""
    assert used({}, {"cached_tokens": 40}).prompt_tokens == 100
    assert used({}, {"cache_read_input_tokens": 40}).prompt_tokens == 140


def test_reasoning_counts_once() -> None:
    request, response = halves({"model": "o3"}, {"reasoning_tokens": 15})
    apart = halves({"model": "o3"}, {"completion_tokens": 5, "reasoning_tokens": 15})
    with_it, beside_it = (PRICES.of_call(*pair, usage_of(*pair))[0] for pair in ((request, response), apart))
    assert with_it == beside_it == 100 * 2_000_000 + 20 * 8_000_000


def test_a_tier_by_input_size_switches_the_whole_request() -> None:
    def cost(prompt_tokens: int) -> int | None:
        pair = halves({"provider": "google", "model": "gemini-2.5-pro", "prompt_tokens": prompt_tokens}, {})
        return PRICES.of_call(*pair, usage_of(*pair))[0]

    assert cost(200_000) == 200_000 * 1_250_000 + 20 * 10_000_000
    assert cost(200_001) == 200_001 * 2_500_000 + 20 * 15_000_000


def test_an_unknown_model_costs_null_and_a_reported_cost_wins() -> None:
    pair = halves({"model": "acme-7b"}, {})
    assert PRICES.of_call(*pair, usage_of(*pair)) == (None, None)
    for model in ("acme-7b", "gpt-4o"):
        pair = halves({"model": model}, {"cost_usd": 0.5})
        assert PRICES.of_call(*pair, usage_of(*pair)) == (500_000_000_000, None)


def test_a_whole_call_is_read_like_its_halves() -> None:
    event = decode(
        "call",
        b'{"request_id":"r","tenant_id":"t","route":"r","model":"m","provider":"anthropic","timestamp":%d,'
        b'"prompt_tokens":86,"cache_read_input_tokens":17817,"completion_tokens":3,"latency_ms":9,"sender":"sdk/1"}'
        % MS,
    )
    assert isinstance(event, Call)
    request, response = RequestHalf.of(event, MS * 1000, FACETS), ResponseHalf.of(event, MS * 1000, FACETS)
    assert (usage_of(request, response).prompt_tokens, usage_of(request, response).warnings) == (17_903, ())
    assert request.sender is response.sender == "sdk/1"
