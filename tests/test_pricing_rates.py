"""Prices compiled to integer rates agree with the catalogue's own arithmetic, to the pico-dollar."""

import gc
import json
import timeit
import tracemalloc
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from streamlens.errors import BadSetting
from streamlens.pricing import CACHED_MODELS, PRICED_AT, Prices, Rates, Tier, _flat, cost_pico

# prompt, completion, cached, cache_write: on both sides of the catalogue's tier starts
USAGES = [
    (0, 0, 0, 0),
    (1, 1, 0, 0),
    (1_000, 333, 0, 0),
    (1_017, 41, 512, 7),
    (128_000, 1_000, 1, 1),
    (128_001, 1_000, 64_000, 64_000),
    (200_001, 7, 3, 11),
    (600_000, 8_191, 100_000, 12_345),
]


def _every_model() -> Iterator[tuple[Provider, ModelInfo]]:
    for provider in get_snapshot().providers:
        for model in provider.models:
            yield provider, model


def _catalogue_pico(provider: Provider, model: ModelInfo, usage: tuple[int, int, int, int]) -> int:
    prompt, completion, cached, cache_write = usage
    counts = Usage(
        input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached, cache_write_tokens=cache_write
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
        ("gcp.gen_ai", "gemini-2.5-flash", "google/gemini-2.5-flash"),
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


ONE = Rates(input=100, cached=10, cache_write=125, output=400)
LONG = Rates(input=200, cached=20, cache_write=250, output=800)


@pytest.mark.parametrize(
    ("rates", "usage", "expected"),
    [
        pytest.param(ONE, (1_000, 10, 0, 0), 104_000, id="input and output"),
        pytest.param(ONE, (1_000, 10, 400, 100), 50_000 + 4_000 + 12_500 + 4_000, id="cached and written are in input"),
        pytest.param(ONE, (10, 0, 400, 0), 4_000, id="more cached than input: nothing fresh is left, nothing negative"),
        pytest.param(Rates(1, 1, 1, 1, call=5), (0, 0, 0, 0), 5, id="a price per call"),
        pytest.param(Rates(5, 0, 0, 0, scale=10), (1, 0, 0, 0), 0, id="half rounds to even: 0.5 is 0"),
        pytest.param(Rates(5, 0, 0, 0, scale=10), (3, 0, 0, 0), 2, id="half rounds to even: 1.5 is 2"),
        pytest.param(Rates(26, 0, 0, 0, scale=10), (1, 0, 0, 0), 3, id="2.6 is 3"),
        pytest.param(Rates(1, 1, 1, 1, tiers=(Tier(99, LONG),)), (99, 1, 0, 0), 100, id="at a tier's start: below it"),
        pytest.param(Rates(1, 1, 1, 1, tiers=(Tier(99, LONG),)), (100, 1, 0, 0), 20_800, id="above it: the whole call"),
        pytest.param(
            Rates(1, 1, 1, 1, tiers=(Tier(199, LONG), Tier(99, ONE))),
            (150, 0, 0, 0),
            15_000,
            id="the middle one of two",
        ),
    ],
)
def test_cost(rates: Rates, usage: tuple[int, int, int, int], expected: int) -> None:
    cost = cost_pico(rates, *usage)
    assert (cost, type(cost)) == (expected, int)


def test_overrides_win_and_keep_the_decimals_as_written(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text(
        json.dumps(
            {
                "Acme-7B": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.30},
                "gpt-4o": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "cached_input_usd_per_mtok": 0.0000005},
            }
        )
    )
    prices = Prices(file)
    assert prices.rates("anyone", "acme-7b") == Rates(100_000, 100_000, 100_000, 300_000, source="overrides")
    assert prices.rates(None, "gpt-4o") == Rates(10_000_000, 5, 10_000_000, 20_000_000, scale=10, source="overrides")
    assert prices.rates(None, "gpt-4o-mini") == Prices().rates(None, "gpt-4o-mini")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"m": {"input_usd_per_mtok": 1}}',
        '{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": -1}}',
        '{"m": {"input_usd_per_mtok": "NaN", "output_usd_per_mtok": 1}}',
        '{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, "cached_usd": 1}}',
    ],
)
def test_a_bad_overrides_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(BadSetting, match=r"prices\.json"):
        Prices(file)


def test_a_missing_overrides_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"nowhere\.json"):
        Prices(tmp_path / "nowhere.json")


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
    assert prices.rates.cache_info().currsize == CACHED_MODELS


def test_a_known_rate_is_a_dictionary_hit() -> None:
    prices = Prices()
    prices.rates("openai", "gpt-4o")
    seconds = min(timeit.repeat(lambda: prices.rates("openai", "gpt-4o"), number=10_000, repeat=5))
    assert seconds / 10_000 < 1e-6


def test_the_catalogue_has_a_version() -> None:
    name, version = Prices().version.split()
    assert name == "genai-prices"
    assert Decimal(version.rsplit(".", 1)[0]) > 0
