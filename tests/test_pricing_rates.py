"""Prices compiled to integer rates agree with the catalogue's own arithmetic, to the pico-dollar."""

import gc
import timeit
import tracemalloc
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from streamlens.catalogue import _flat
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.pricing import CACHED_MODELS, Prices
from streamlens.quality import usage_of
from streamlens.rates import PRICED_AT, Rates, Tier, cost_pico

Tokens = tuple[int, int, int, int, int]
# prompt, completion, cached, cache_write, reasoning: on both sides of the catalogue's tier starts
USAGES: list[Tokens] = [
    (0, 0, 0, 0, 0),
    (1, 1, 0, 0, 1),
    (1_000, 333, 0, 0, 0),
    (1_017, 41, 512, 7, 40),
    (128_000, 1_000, 1, 1, 0),
    (128_001, 1_000, 64_000, 64_000, 999),
    (200_001, 7, 3, 11, 3),
    (600_000, 8_191, 100_000, 12_345, 8_191),
]


def _every_model() -> Iterator[tuple[Provider, ModelInfo]]:
    for provider in get_snapshot().providers:
        for model in provider.models:
            yield provider, model


def _catalogue_pico(provider: Provider, model: ModelInfo, usage: Tokens) -> int:
    prompt, completion, cached, cache_write, reasoning = usage
    counts = Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=cached,
        cache_write_tokens=cache_write,
        output_reasoning_tokens=reasoning,
    )
    with localcontext(prec=60):
        usd = model.calc_price(counts, provider, genai_request_timestamp=PRICED_AT).total_price
        return int((usd * 10**12).to_integral_value(ROUND_HALF_EVEN))


def test_every_priced_model_of_the_catalogue_costs_what_the_catalogue_says() -> None:
    compared, wrong = 0, []
    for provider, model in _every_model():
        rates = _flat(model.get_prices(PRICED_AT), "")
        if rates is None:
            continue
        for usage in USAGES:
            compared += 1
            ours, theirs = cost_pico(rates, *usage), _catalogue_pico(provider, model, usage)
            if ours != theirs:
                wrong.append((provider.id, model.id, usage, ours, theirs))
    assert wrong == []
    assert compared > 10_000


@pytest.mark.parametrize(
    ("provider", "model", "source"),
    [
        (None, "gpt-4o-mini", "openai/gpt-4o-mini"),
        (None, "GPT-4o-mini", "openai/gpt-4o-mini"),
        ("", "gpt-4o-mini", "openai/gpt-4o-mini"),
        ("openai", "gpt-4o-mini", "openai/gpt-4o-mini"),
        ("azure.ai.openai", "gpt-4o-mini", "azure/gpt-4o-mini"),
        ("az.ai.openai", "gpt-4o-mini", "azure/gpt-4o-mini"),
        ("Azure_OpenAI", "gpt-4o-mini", "azure/gpt-4o-mini"),
        ("gcp.gen_ai", "gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("gcp.vertex_ai", "gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("mistral_ai", "mistral-small-latest", "mistral/mistral-small-latest"),
        ("x_ai", "grok-3", "x-ai/grok-3"),
        ("xai", "grok-3", "x-ai/grok-3"),
        ("aws.bedrock", "amazon.nova-lite-v1:0", "aws/amazon.nova-lite-v1:0"),
        (None, "acme-7b", None),
        ("openai", "acme-7b", None),
        ("our-own-gpus", "gpt-4o-mini", None),
        ("openai", "whisper-1", None),
        (None, "", None),
    ],
)
def test_a_model_is_found_by_name_or_has_no_price(provider: str | None, model: str, source: str | None) -> None:
    rates = Prices().rates(provider, model)
    assert (rates.source if rates else None) == source


def test_a_model_that_is_given_away_is_priced_zero_and_one_without_a_price_is_not() -> None:
    free, unlisted = Prices().rates("mistral", "mistral-nemo:free"), Prices().rates("cerebras", "qwen-3-coder-480b")
    assert free is not None
    assert (cost_pico(free, 1_000, 1_000), unlisted) == (0, None)


ONE = Rates(input=100, cached=10, cache_write=125, output=400, reasoning=400)
LONG = Rates(input=200, cached=20, cache_write=250, output=800, reasoning=900)


@pytest.mark.parametrize(
    ("rates", "usage", "expected"),
    [
        pytest.param(ONE, (1_000, 10, 0, 0), 104_000, id="input and output"),
        pytest.param(
            ONE, (1_000, 10, 400, 100, 7), 50_000 + 4_000 + 12_500 + 4_000, id="cached and written are in input"
        ),
        pytest.param(ONE, (17_903, 0, 17_817, 0), 86 * 100 + 178_170, id="17,817 of 17,903 cached leave 86 fresh"),
        pytest.param(LONG, (0, 10, 0, 0, 4), 6 * 800 + 4 * 900, id="reasoning is in output and has a price of its own"),
        pytest.param(Rates(1, 1, 1, 1, 1, call=5), (0, 0, 0, 0), 5, id="a price per call"),
        pytest.param(Rates(5, 0, 0, 0, 0, scale=10), (1, 0, 0, 0), 0, id="half rounds to even: 0.5 is 0"),
        pytest.param(Rates(5, 0, 0, 0, 0, scale=10), (3, 0, 0, 0), 2, id="half rounds to even: 1.5 is 2"),
        pytest.param(Rates(26, 0, 0, 0, 0, scale=10), (1, 0, 0, 0), 3, id="2.6 is 3"),
        pytest.param(
            Rates(1, 1, 1, 1, 1, tiers=(Tier(99, LONG),)), (99, 1, 0, 0), 100, id="at a tier's start: below it"
        ),
        pytest.param(
            Rates(1, 1, 1, 1, 1, tiers=(Tier(99, LONG),)), (100, 1, 0, 0), 20_800, id="above it: the whole call"
        ),
        pytest.param(
            Rates(1, 1, 1, 1, 1, tiers=(Tier(199, LONG), Tier(99, ONE))),
            (150, 0, 0, 0),
            15_000,
            id="the middle one of two",
        ),
    ],
)
def test_cost(rates: Rates, usage: tuple[int, ...], expected: int) -> None:
    cost = cost_pico(rates, *usage)
    assert (cost, type(cost)) == (expected, int)


def test_junk_names_do_not_fill_the_memory() -> None:
    prices = Prices()

    def ask(first: int) -> int:
        for number in range(first, first + CACHED_MODELS):
            prices.rates(f"vendor-{number}", f"junk-{number}")
            prices.rates(None, f"junk-{number}")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = ask(10_000)
        grown = ask(20_000) - full
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    assert prices._found.cache_info().currsize == CACHED_MODELS  # type: ignore[attr-defined]


def test_a_known_rate_is_a_dictionary_hit() -> None:
    prices = Prices()
    prices.rates("openai", "gpt-4o")
    request = RequestHalf(0, "acme", "chat", "gpt-4o", "openai", 10)
    response = ResponseHalf(1, None, None, 1, None, 5, 0, 0, 0, None, None)
    used = usage_of(request, response)
    seconds = min(timeit.repeat(lambda: prices.of_call(request, response, used), number=10_000, repeat=5))
    assert seconds / 10_000 < 2e-6


def test_rates_name_the_catalogue_and_its_version() -> None:
    rates = Prices().rates("openai", "gpt-4o")
    assert rates is not None
    name, version = rates.version.split()
    assert name == "genai-prices"
    assert Decimal(version.rsplit(".", 1)[0]) > 0
