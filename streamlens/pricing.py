"""What a model costs: the catalogue (`streamlens.catalogue`) and the prices file, compiled to integer rates.

A model without a known price is unpriced (`None`), never free.
"""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from streamlens import overrides
from streamlens.events import time_us
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.overrides import ALWAYS, Overrides
from streamlens.rates import PRICED_AT, Period, Rates, Schedule, priced
from streamlens.usage import Usage

CACHED_MODELS = 4096


class Prices:
    """Rates by (provider, model); the 4,096 pairs asked for last are remembered, those without a price too."""

    def __init__(self, file: Path | None = None) -> None:
        """`file` is the prices file, `streamlens.overrides`; it wins over the catalogue. Raises `BadSetting`."""
        self._overrides = overrides.load(file) if file else Overrides()
        self._tenants = frozenset(self._overrides.tenants)
        self._found: Callable[[str | None, str, str | None], Rates | Schedule | None] = lru_cache(CACHED_MODELS)(
            self._find
        )

    def of_call(self, request: RequestHalf, response: ResponseHalf, used: Usage) -> tuple[int | None, Rates | None]:
        """A call's cost in pico-dollars (None: not known), and the rates that gave it (None: it was reported)."""
        if response.cost_pico is not None:
            return response.cost_pico, None
        return priced(self.of_model(request, response), request.ts_us, used)

    def of_model(self, request: RequestHalf, response: ResponseHalf) -> Rates | Schedule | None:
        """What calls of this provider, model and tenant are billed by; None: not known."""
        tenant_id = request.tenant_id if request.tenant_id in self._tenants else None
        return self._found(request.provider, response.model or request.model, tenant_id)

    def rates(
        self, provider: str | None, model: str, tenant_id: str | None = None, at: datetime = PRICED_AT
    ) -> Rates | None:
        """The rates of a call at a time, None when unknown. A provider that the catalogue lacks has no price."""
        return self.schedule(provider, model, tenant_id).at(time_us(at))

    def schedule(self, provider: str | None, model: str, tenant_id: str | None = None) -> Schedule:
        """The rates of a model for all times."""
        found = self._found(provider, model, tenant_id if tenant_id in self._tenants else None)
        return found if isinstance(found, Schedule) else Schedule((), found)

    def _find(self, provider: str | None, model: str, tenant_id: str | None) -> Rates | Schedule | None:
        sections = self._overrides.sections(tenant_id)
        model = next((each.aliases[model.lower()] for each in sections if model.lower() in each.aliases), model)
        periods: list[Period] = []
        for period in (period for each in sections for period in each.prices.get(model.lower(), ())):
            if (period.from_us, period.until_us) == ALWAYS:
                return Schedule(tuple(periods), period.rates) if periods else period.rates
            periods.append(period)
        from streamlens.catalogue import catalogue_rates

        rates = catalogue_rates(provider, model)
        return Schedule(tuple(periods), rates) if periods else rates
