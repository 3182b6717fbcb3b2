"""What a call costs: the catalogue of `genai-prices` (offline), compiled to integer rates that the hot path multiplies.

Money is integer pico-dollars (1e-12 USD): one dollar per million tokens is 1,000,000 pico-dollars per token. A model
without a known price is unpriced (`None`), never free.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import genai_prices
import msgspec
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import ModelPrice, TieredPrices

from streamlens.errors import BadSetting

PRICED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""Every call is priced as of this instant, so that a replay costs what the first run cost. Later than every price
change that had happened when the catalogue was pinned, earlier than those it only announces; move it with the pin."""

CACHED_MODELS = 4096

# OpenTelemetry's `gen_ai.provider.name` values that the catalogue does not know, or takes for another provider.
_PROVIDERS = {
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
}
_PICO_PER_TOKEN = 1_000_000  # of one USD per million tokens
_PICO_PER_CALL = 1_000_000_000  # of one USD per thousand requests


class Rates(msgspec.Struct, frozen=True):
    """Prices of one model in integer pico-dollars per token, each multiplied by `scale`."""

    input: int
    cached: int
    """Input read from the provider's cache."""
    cache_write: int
    output: int
    """Reasoning tokens included; 0 where the catalogue bills no output (embeddings)."""
    call: int = 0
    """Pico-dollars per call, times `scale`; few models have it."""
    scale: int = 1
    """A power of ten; above 1 only where a price is no whole number of pico-dollars per token."""
    tiers: "tuple[Tier, ...]" = ()
    """Highest first. A tier replaces the rates of the whole call, not only of the tokens above its start."""
    source: str = ""
    """Where the price comes from: `provider/model` of the catalogue, or `overrides`."""


class Tier(msgspec.Struct, frozen=True):
    """The rates of calls with more than `above` prompt tokens."""

    above: int
    rates: Rates


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the overrides file: USD per million tokens. A missing cache price is the input price."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None


def cost_pico(
    rates: Rates, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, cache_write_tokens: int = 0
) -> int:
    """Price of one call in pico-dollars, exact; a remainder below one pico-dollar is rounded half to even.

    Cached and cache-write tokens are part of `prompt_tokens` (OpenTelemetry's rule). Where a client reports more of
    them than prompt tokens, they are billed as reported and nothing is left to bill as fresh input.
    """
    for tier in rates.tiers:
        if prompt_tokens > tier.above:
            rates = tier.rates
            break
    fresh = prompt_tokens - cached_tokens - cache_write_tokens
    scaled = (
        (fresh if fresh > 0 else 0) * rates.input
        + cached_tokens * rates.cached
        + cache_write_tokens * rates.cache_write
        + completion_tokens * rates.output
        + rates.call
    )
    if rates.scale == 1:
        return scaled
    whole, rest = divmod(scaled, rates.scale)
    return whole + (2 * rest > rates.scale or (2 * rest == rates.scale and whole % 2))


class Prices:
    """Rates by (provider, model); the 4,096 pairs asked for last are remembered, those without a price too."""

    def __init__(self, overrides: Path | None = None) -> None:
        """`overrides`: a JSON file {model: Override}, which wins over the catalogue. Raises `BadSetting`."""
        self._overrides = _load(overrides) if overrides else {}
        self.rates: Callable[[str | None, str], Rates | None] = lru_cache(CACHED_MODELS)(self._compile)
        """The rates of a provider and model, None when unknown. A provider that the catalogue lacks has no price."""

    @property
    def version(self) -> str:
        """The catalogue's name and version."""
        return f"genai-prices {genai_prices.__version__}"

    def _compile(self, provider: str | None, model: str) -> Rates | None:
        if override := self._overrides.get(model.lower()):
            return override
        provider_id = _PROVIDERS.get(provider.lower(), provider) if provider else None
        # A snapshot remembers every name it was ever asked for; a fresh one each time keeps memory flat.
        catalogue = DataSnapshot(get_snapshot().providers, from_auto_update=False)
        try:
            found_at, found = catalogue.find_provider_model(model, None, provider_id, None)
        except LookupError:
            return None
        return _flat(found.get_prices(PRICED_AT), f"{found_at.id}/{found.id}")


class _Usd(NamedTuple):
    """USD per million tokens of each kind, and per thousand calls."""

    input: Decimal
    cached: Decimal
    cache_write: Decimal
    output: Decimal
    calls: Decimal = Decimal(0)


def _flat(price: ModelPrice, source: str) -> Rates | None:
    """Integer rates of a catalogue entry; None where it states no price for input tokens (audio, pages, retired).

    The catalogue writes a free model without any price, so only the suffix `:free` tells it from an unknown price.
    """
    if price.input_mtok is None:
        return Rates(0, 0, 0, 0, source=source) if source.endswith(":free") else None
    starts = {tier.start for kind in vars(price).values() if isinstance(kind, TieredPrices) for tier in kind.tiers}
    tiers = tuple(Tier(start, _rates(_at(price, start + 1), source)) for start in sorted(starts, reverse=True))
    return _rates(_at(price, 0), source, tiers)


def _at(price: ModelPrice, prompt_tokens: int) -> _Usd:
    """The prices in force for a call of this input size. A cache price that is not stated is the input price."""

    def usd(kind: Decimal | TieredPrices | None, otherwise: Decimal) -> Decimal:
        if isinstance(kind, TieredPrices):
            reached = [tier.price for tier in kind.tiers if prompt_tokens > tier.start]
            return reached[-1] if reached else kind.base
        return otherwise if kind is None else kind

    zero = Decimal(0)
    fresh = usd(price.input_mtok, zero)
    return _Usd(
        input=fresh,
        cached=usd(price.cache_read_mtok, fresh),
        cache_write=usd(price.cache_write_mtok, fresh),
        output=usd(price.output_mtok, zero),
        calls=usd(price.requests_kcount, zero),
    )


def _rates(usd: _Usd, source: str, tiers: tuple[Tier, ...] = ()) -> Rates:
    pico = [price * _PICO_PER_TOKEN for price in usd[:4]] + [usd.calls * _PICO_PER_CALL]
    ratios = [price.as_integer_ratio() for price in pico]
    scale = 1
    while any(numerator * scale % denominator for numerator, denominator in ratios):
        scale *= 10
    fresh, cached, cache_write, output, call = (numerator * scale // denominator for numerator, denominator in ratios)
    return Rates(fresh, cached, cache_write, output, call, scale, tiers, source)


def _load(path: Path) -> dict[str, Rates]:
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=dict[str, Override])
    except (OSError, msgspec.DecodeError) as error:
        raise BadSetting(f"prices file {path}: {error}") from error
    rates = {}
    for model, entry in entries.items():
        fresh = entry.input_usd_per_mtok
        cached = fresh if entry.cached_input_usd_per_mtok is None else entry.cached_input_usd_per_mtok
        cache_write = fresh if entry.cache_write_usd_per_mtok is None else entry.cache_write_usd_per_mtok
        usd = _Usd(fresh, cached, cache_write, entry.output_usd_per_mtok)
        if not all(price.is_finite() and price >= 0 for price in usd):
            raise BadSetting(f"prices file {path}: {model}: a price is a number from 0 on")
        rates[model.lower()] = _rates(usd, "overrides")
    return rates
