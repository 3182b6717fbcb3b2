"""What a call costs by given rates: integer arithmetic over pico-dollars, without any catalogue.

Money is integer pico-dollars (1e-12 USD): one dollar per million tokens is 1,000,000 pico-dollars per token.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple, final

import msgspec

from streamlens.usage import Usage

PRICED_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""The catalogue's prices are those of this instant, so that a replay costs what the first run cost. Later than every
price change that had happened when the catalogue was pinned, earlier than those it only announces; move it with the
pin. Prices of the file follow the event time of the call."""

PICO_PER_TOKEN = 1_000_000  # of one USD per million tokens
_PICO_PER_CALL = 1_000_000_000  # of one USD per thousand requests


class Rates(msgspec.Struct, frozen=True):
    """Prices of one model in integer pico-dollars per token, each multiplied by `scale`."""

    input: int
    cached: int
    """Input read from the provider's cache."""
    cache_write: int
    output: int
    """0 where nothing is stated, as for embeddings."""
    reasoning: int
    """Reasoning tokens, which are part of the output; the price of output where there is no other."""
    call: int = 0
    """Pico-dollars per call, times `scale`; few models have it."""
    scale: int = 1
    """A power of ten; above 1 only where a price is no whole number of pico-dollars per token."""
    tiers: "tuple[Tier, ...]" = ()
    """Highest first. A tier replaces the rates of the whole call, not only of the tokens above its start."""
    unstated: tuple[bool, bool, bool] = (False, False, False)
    """Whether cached input, cache writes and output have no price of their own, so that another one stands in."""
    source: str = ""
    """Where the price comes from: `provider/model` of the catalogue, or `overrides`."""
    version: str = ""
    """Which catalogue, or which overrides file."""


class Tier(msgspec.Struct, frozen=True):
    """The rates of calls with more than `above` prompt tokens."""

    above: int
    rates: Rates


class Period(msgspec.Struct, frozen=True):
    """Rates of the calls whose event time is in [from_us, until_us)."""

    from_us: int
    until_us: int
    rates: Rates


@final
class Schedule(msgspec.Struct, frozen=True):
    """Rates that depend on the time of the call. The first period that holds it wins."""

    periods: tuple[Period, ...]
    otherwise: Rates | None

    def at(self, time_us: int) -> Rates | None:
        for period in self.periods:
            if period.from_us <= time_us < period.until_us:
                return period.rates
        return self.otherwise


def cost_pico(
    rates: Rates,
    prompt_tokens: int,
    completion_tokens: int,
    cached_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
) -> int:
    """Price of one call in pico-dollars, exact; a remainder below one pico-dollar is rounded half to even.

    Cached and cache-write tokens are part of `prompt_tokens`, reasoning tokens of `completion_tokens`, as
    `streamlens.usage` sees to; each token is billed once.
    """
    if rates.tiers:
        for tier in rates.tiers:
            if prompt_tokens > tier.above:
                rates = tier.rates
                break
    scaled = prompt_tokens * rates.input + completion_tokens * rates.output + rates.call
    if cached_tokens:
        scaled += cached_tokens * (rates.cached - rates.input)
    if cache_write_tokens:
        scaled += cache_write_tokens * (rates.cache_write - rates.input)
    if reasoning_tokens:
        scaled += reasoning_tokens * (rates.reasoning - rates.output)
    if rates.scale == 1:
        return scaled
    whole, rest = divmod(scaled, rates.scale)
    return whole + (2 * rest > rates.scale or (2 * rest == rates.scale and whole % 2))


def priced(price: Rates | Schedule | None, at_us: int, used: Usage) -> tuple[int | None, Rates | None]:
    """The cost of a call at a time in pico-dollars, and the rates that gave it; None and None when not known."""
    rates = price.at(at_us) if type(price) is Schedule else price
    if rates is None:
        return None, None
    return cost_pico(
        rates,
        used.prompt_tokens,
        used.completion_tokens,
        used.cached_tokens,
        used.cache_write_tokens,
        used.reasoning_tokens,
    ), rates


class Usd(NamedTuple):
    """USD per million tokens of each kind, and per thousand calls; None: not stated."""

    input: Decimal
    output: Decimal | None
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None
    calls: Decimal = Decimal(0)

    def rates(self, source: str, version: str, tiers: tuple[Tier, ...] = ()) -> Rates:
        """The same as integers. What is not stated is billed as input, or as output."""
        output = self.output or Decimal(0)
        tokens = (
            self.input,
            self.input if self.cached is None else self.cached,
            self.input if self.cache_write is None else self.cache_write,
            output,
            output if self.reasoning is None else self.reasoning,
        )
        ratios = [(price * PICO_PER_TOKEN).as_integer_ratio() for price in tokens]
        ratios.append((self.calls * _PICO_PER_CALL).as_integer_ratio())
        scale = 1
        while any(numerator * scale % denominator for numerator, denominator in ratios):
            scale *= 10
        unstated = (self.cached is None, self.cache_write is None, self.output is None)
        fresh, cached, cache_write, out, reasoning, call = (
            numerator * scale // denominator for numerator, denominator in ratios
        )
        return Rates(fresh, cached, cache_write, out, reasoning, call, scale, tiers, unstated, source, version)
