"""`streamlens prices`: what a model costs and where that comes from, and what a prices file would change."""

import os
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streamlens.overrides import Section
    from streamlens.pricing import Prices
    from streamlens.rates import Period, Rates

KINDS = ("input", "cached input", "cache write", "output", "reasoning", "1,000 calls")


@click.group(epilog="Example: streamlens prices show gpt-4o")
def prices() -> None:
    """What a model costs, in USD per million tokens."""


@prices.command(epilog="Example: streamlens prices show gpt-4o --provider azure.ai.openai --tenant acme")
@click.argument("model")
@click.option("--provider", help="As sent in `provider`. Without it the model's name decides.")
@click.option("--tenant", help="Whose prices, where STREAMLENS_PRICES_FILE has some of its own.")
def show(model: str, provider: str | None, tenant: str | None) -> None:
    """Tell what MODEL costs, from when to when, and where that comes from.

    Exit code 1 when no price is known: such calls are counted as unpriced.
    """
    # Imported here, because the price catalogue alone takes half a second.
    from streamlens.pricing import Prices
    from streamlens.settings import Settings

    schedule = Prices(Settings.load(os.environ).prices_file).schedule(provider, model, tenant)
    for period in schedule.periods:
        _print(period.rates, _days(period))
    if schedule.otherwise is not None:
        _print(schedule.otherwise, "otherwise" if schedule.periods else "")
    elif not schedule.periods:
        raise click.ClickException(f"no price is known for {model}" + (f" at {provider}" if provider else ""))


@prices.command(epilog="Example: streamlens prices diff prices.json")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def diff(file: Path) -> None:
    """Tell what FILE, made for STREAMLENS_PRICES_FILE, changes against the catalogue.

    The catalogue's prices are those of the provider that the model's name points to; the file's hold at every provider.
    """
    from streamlens import overrides
    from streamlens.catalogue import VERSION
    from streamlens.pricing import Prices

    catalogue, own, loaded = Prices(), Prices(file), overrides.load(file)
    click.echo(f"{loaded.version} against {VERSION}, USD per million tokens")
    for tenant, section in ((None, loaded.everyone), *loaded.tenants.items()):
        for line in _changes(section, catalogue, own, tenant):
            click.echo(line)


def _changes(section: "Section", catalogue: "Prices", own: "Prices", tenant: str | None) -> Iterator[str]:
    whose = f" of {tenant}" if tenant is not None else ""
    for model, periods in section.prices.items():
        known = catalogue.rates(None, model)
        for period in periods:
            yield f"{model}{whose} {_days(period)}".rstrip() + ("" if known else ": not in the catalogue")
            changed = [
                f"  {label}: {before or '-'} -> {after}"
                for label, before, after in _side_by_side(known, period.rates)
                if before != after
            ]
            yield from changed
            if not changed:
                yield "  no change"
    for alias, model in section.aliases.items():
        schedule = own.schedule(None, alias, tenant)
        priced = schedule.periods[0].rates if schedule.periods else schedule.otherwise
        yield f"{alias}{whose}: alias of {model}, {priced.source if priced else 'which has no price'}"


def _side_by_side(one: "Rates | None", other: "Rates") -> Iterator[tuple[str, str | None, str]]:
    """Each kind of token at each size of input from which either has other prices, and its two prices."""
    sizes = {tier.above for rates in (one, other) if rates for tier in rates.tiers}
    for above in (0, *sorted(sizes)):
        first: Sequence[str | None] = _decimals(_tier(one, above)) if one else [None] * len(KINDS)
        for kind, before, after in zip(KINDS, first, _decimals(_tier(other, above)), strict=True):
            if kind != KINDS[-1] or {before, after} - {None, "0"}:
                yield f"{kind} above {above:,}" if above else kind, before, after


def _tier(rates: "Rates", above: int) -> "Rates":
    """What holds for calls with more than so many prompt tokens, up to the next tier."""
    return next((tier.rates for tier in rates.tiers if tier.above <= above), rates)


def _decimals(rates: "Rates") -> list[str]:
    per_mtok = rates.input, rates.cached, rates.cache_write, rates.output, rates.reasoning
    exact = [Decimal(rate) / (rates.scale * 1_000_000) for rate in per_mtok]
    exact.append(Decimal(rates.call) / (rates.scale * 1_000_000_000))
    return [f"{price.normalize():f}" for price in exact]


def _print(rates: "Rates", when: str) -> None:
    names = [rates.version] if rates.version.startswith(rates.source) else [rates.source, rates.version]
    click.echo(", ".join([*names, when] if when else names))
    stand_ins = {kind for kind, missing in zip(KINDS[1:4], rates.unstated, strict=True) if missing}
    for kind, _, price in _side_by_side(None, rates):
        stands_in = kind.partition(" above ")[0] in stand_ins
        click.echo(f"  {kind:28} {price:>12}" + ("  no price of its own: partly priced" if stands_in else ""))


def _days(period: "Period") -> str:
    from streamlens.overrides import ALWAYS
    from streamlens.postgres.rows import time_of

    first = f"from {time_of(period.from_us):%Y-%m-%d}" if period.from_us != ALWAYS[0] else ""
    last = f"until {time_of(period.until_us):%Y-%m-%d}" if period.until_us != ALWAYS[1] else ""
    return f"{first} {last}".strip()
