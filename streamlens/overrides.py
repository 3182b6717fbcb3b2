"""The prices file: own prices that win over the catalogue, for all tenants or for one, and other names of models.

`{"gpt-4o": {"input_usd_per_mtok": 2, …}, "aliases": {"our-gpt": "gpt-4o"}, "tenants": {"acme": {…the same…}}}`;
a list of prices for a model holds the periods in which they are in force.
"""

import hashlib
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import msgspec

from streamlens.errors import BadSetting
from streamlens.events import time_us
from streamlens.rates import Period, Tier, Usd

ALWAYS = (-(1 << 62), 1 << 62)
"""The period of a price without dates."""


class _Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens. A cache price that is missing is the input price, a missing reasoning price output's."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    reasoning_usd_per_mtok: Decimal | None = None

    def usd(self) -> Usd:
        usd = Usd(
            self.input_usd_per_mtok,
            self.output_usd_per_mtok,
            self.cached_input_usd_per_mtok,
            self.cache_write_usd_per_mtok,
            self.reasoning_usd_per_mtok,
        )
        if not all(price is None or (price.is_finite() and price >= 0) for price in usd):
            raise ValueError("a price is a number from 0 on")
        return usd


class _Tier(_Price, frozen=True, kw_only=True):
    """The prices of calls with more than `above` input tokens."""

    above: int


class Override(_Price, frozen=True, kw_only=True):
    """One entry: prices, in force from the beginning of the day `from` to that of `until`, in UTC."""

    tiers: tuple[_Tier, ...] = ()
    from_: date | None = msgspec.field(default=None, name="from")
    until: date | None = None

    def period(self, source: str, version: str) -> Period:
        """The entry as rates. Raises `ValueError`."""
        start, end = _midnight_us(self.from_, ALWAYS[0]), _midnight_us(self.until, ALWAYS[1])
        if start >= end:
            raise ValueError("`from` must be before `until`")
        highest_first = sorted(self.tiers, key=lambda tier: -tier.above)
        tiers = tuple(Tier(tier.above, tier.usd().rates(source, version)) for tier in highest_first)
        return Period(start, end, self.usd().rates(source, version, tiers))


class Section(msgspec.Struct, frozen=True):
    """The prices and aliases of all tenants, or of one, by lower-case name."""

    prices: dict[str, tuple[Period, ...]] = {}
    aliases: dict[str, str] = {}


class Overrides(msgspec.Struct, frozen=True):
    """What the file says. `version` names it by its content."""

    everyone: Section = Section()
    tenants: dict[str, Section] = {}
    version: str = ""

    def sections(self, tenant_id: str | None) -> tuple[Section, ...]:
        """Those that hold for a tenant, its own first."""
        own = self.tenants.get(tenant_id) if tenant_id is not None else None
        return (self.everyone,) if own is None else (own, self.everyone)


def load(path: Path) -> Overrides:
    """Read and validate the file. Raises `BadSetting` that names it and the entry at fault."""
    try:
        raw = path.read_bytes()
        version = f"overrides {hashlib.sha256(raw).hexdigest()[:8]}"
        entries = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        tenants = msgspec.json.decode(entries.pop("tenants", b"{}"), type=dict[str, dict[str, msgspec.Raw]])
        return Overrides(
            _section(entries, "overrides", version),
            {tenant: _section(own, f"overrides of {tenant}", version) for tenant, own in tenants.items()},
            version,
        )
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise BadSetting(f"prices file {path}: {error}") from error


def _section(entries: dict[str, msgspec.Raw], source: str, version: str) -> Section:
    prices: dict[str, tuple[Period, ...]] = {}
    given = msgspec.json.decode(entries.pop("aliases", b"{}"), type=dict[str, str])
    aliases = {name.lower(): model for name, model in given.items()}
    for model, raw in entries.items():
        try:
            dated = msgspec.json.decode(raw, type=Override | tuple[Override, ...])
            each = (dated,) if isinstance(dated, Override) else dated
            prices[model.lower()] = tuple(entry.period(source, version) for entry in each)
        except (ValueError, msgspec.MsgspecError) as error:
            raise ValueError(f"{model}: {error}") from error
    if both := prices.keys() & aliases.keys():
        raise ValueError(f"{min(both)}: has a price and is an alias")
    return Section(prices, aliases)


def _midnight_us(day: date | None, otherwise: int) -> int:
    return otherwise if day is None else time_us(datetime.combine(day, time(), UTC))
