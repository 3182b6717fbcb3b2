"""The catalogue of `genai-prices`, offline: its entries compiled to integer rates.

Importing it takes a third of a second, so `streamlens.pricing` does that when it first needs it, or beside the start.
"""

from decimal import Decimal

import genai_prices
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import ModelPrice, TieredPrices

from streamlens.rates import PRICED_AT, Rates, Tier, Usd

VERSION = f"genai-prices {genai_prices.__version__}"

# Values of OpenTelemetry's `gen_ai.provider.name`, and of its forerunner `gen_ai.system`, that the catalogue does not
# know, or takes for another provider; those that begin with "azure" mean Azure, whatever they have behind it.
_PROVIDERS = {
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
}


def catalogue_rates(provider: str | None, model: str) -> Rates | None:
    """The rates of a model at `PRICED_AT`, None when unknown. A provider that the catalogue lacks has no price."""
    provider_id = provider.lower() if provider else None
    if provider_id:
        provider_id = "azure" if provider_id.startswith("azure") else _PROVIDERS.get(provider_id, provider_id)
    # A snapshot remembers every name it was ever asked for; a fresh one each time keeps memory flat.
    catalogue = DataSnapshot(get_snapshot().providers, from_auto_update=False)
    try:
        found_at, found = catalogue.find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    return _flat(found.get_prices(PRICED_AT), f"{found_at.id}/{found.id}")


def _flat(price: ModelPrice, source: str) -> Rates | None:
    """Integer rates of a catalogue entry; None where it states no price for input tokens (audio, pages, retired).

    The catalogue writes a free model without any price, so only the suffix `:free` tells it from an unknown price.
    """
    if price.input_mtok is None:
        zero = Decimal(0)
        return Usd(zero, zero, zero, zero).rates(source, VERSION) if source.endswith(":free") else None
    starts = {tier.start for kind in vars(price).values() if isinstance(kind, TieredPrices) for tier in kind.tiers}
    tiers = tuple(Tier(start, _at(price, start + 1).rates(source, VERSION)) for start in sorted(starts, reverse=True))
    return _at(price, 0).rates(source, VERSION, tiers)


def _at(price: ModelPrice, prompt_tokens: int) -> Usd:
    """The prices in force for a call of this input size."""

    def usd(kind: Decimal | TieredPrices | None) -> Decimal | None:
        if isinstance(kind, TieredPrices):
            reached = [tier.price for tier in kind.tiers if prompt_tokens > tier.start]
            return reached[-1] if reached else kind.base
        return kind

    return Usd(
        input=usd(price.input_mtok) or Decimal(0),
        output=usd(price.output_mtok),
        cached=usd(price.cache_read_mtok),
        cache_write=usd(price.cache_write_mtok),
        reasoning=usd(price.output_reasoning_mtok),
        calls=usd(price.requests_kcount) or Decimal(0),
    )
