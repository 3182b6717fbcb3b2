"""Where a joined call counts: in the cell of its series, and in one more for each facet that it has."""

from collections import Counter
from typing import Any
from zlib import crc32

import msgspec

from streamlens.cell import Cell
from streamlens.checkpoint.state import State
from streamlens.events import Call
from streamlens.facets import Facets, version_of
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.moments import Variant
from streamlens.pricing import Prices
from streamlens.quality import usage_of
from streamlens.rates import Rates, Schedule, priced
from tables import faceted, partials, recent
from tables.caps import Caps
from tables.faceted import Faceted
from tables.ledger import Entry, Ledger
from tables.observed import UNKNOWN, Observed
from tables.partials import Partials
from tables.recent import Minute, Recent
from tables.visits import Visits

_PLACES = 5_000
"""So many at a time: calls that never say the same twice must not fill the memory within an epoch."""
_KNOWN = 5_000
"""So many ways of telling facets are remembered while their windows are open."""

_Said = tuple[Any, ...]


class _Told(msgspec.Struct, frozen=True, gc=False):
    """Where calls count that tell the same facets."""

    rows: tuple[bytes, ...]
    """The keys of their cells."""
    capped: tuple[str, ...]
    """The facets whose values had no room."""
    variant: bytes | None
    """The key of the variant, for calls of an experiment."""


class _Place(msgspec.Struct, gc=False):
    """Where calls of this epoch count that say the same.

    Adding to each cell costs each call. So the first call is added to all of them, and those after it are summed up and
    merged into them at the end of the epoch. Where there are many series, most calls are the only one of their place.
    """

    cells: tuple[Cell, ...]
    capped: tuple[str, ...]
    """The labels by which these calls count under another name than theirs."""
    entry: Entry
    price: Rates | Schedule | None
    series: tuple[str, str]
    """The names under which route and model count."""
    variant: Variant | None
    kept: Minute
    sender: str
    others: Cell | None = None
    """The sum of all calls but the first one."""
    whole: int = 0
    """How many calls came as one event."""
    warned: dict[tuple[str, ...], int] = {}
    """How many calls broke which rules."""

    def second(self) -> Cell:
        """Begin the sum."""
        self.others = Cell()
        return self.others

    def fold(self) -> int:
        """Bring the cells and the ledger up to date; the number of calls. Afterwards the place takes no more."""
        calls = 1
        if self.others is not None:
            calls += self.others.calls
            for cell in self.cells:
                cell.merge(self.others)
        self.entry.aggregate(2 * calls - self.whole)
        return calls


class Calls:
    """The cells of one partition, by series and by facet."""

    prefixes = partials.PREFIX + faceted.PREFIX + recent.PREFIX + Visits.prefixes

    def __init__(
        self,
        caps: Caps,
        facets: Facets,
        prices: Prices,
        observed: Observed,
        ledger: Ledger,
        recent: Recent,
        visits: Visits,
    ) -> None:
        self._caps = caps
        self._facets = facets
        self._prices = prices
        self._observed = observed
        self._ledger = ledger
        self._recent = recent
        self._visits = visits
        self._partials = Partials()
        self._faceted = Faceted()
        self._places: dict[_Said, _Place] = {}
        self._told: dict[_Said, _Told] = {}

    def open(self, state: State, closed: int) -> None:
        self._partials.open(state, closed)
        self._faceted.open(state, closed)
        self._recent.open(state, closed)
        self._visits.open(state, closed)
        for window, (tenant_id, route, model) in self._partials.names(closed + 1):
            self._caps.seen_series(window, tenant_id, route, model)
        for window, (tenant_id, facet, value) in self._faceted.names(closed + 1):
            self._caps.seen(window, tenant_id, facet, value)

    def count(
        self, request_id: str, window: int, request: RequestHalf, response: ResponseHalf, event: Call | None = None
    ) -> None:
        """Count a call in a window; `event` is the one in which it came whole, if it did. `request_id` may have its
        tenant behind a NUL (`scoped`)."""
        said = (
            window,
            request.tenant_id,
            request.route,
            request.model,
            request.provider,
            request.facets,
            response.facets,
            response.error_type,
            response.model,
            response.sender or request.sender,
        )
        found = self._places.get(said)
        place = found or self._place(said, window, request, response)
        used = usage_of(request, response)
        cost_pico, rates = response.cost_pico, None
        if cost_pico is None:
            cost_pico, rates = priced(place.price, request.ts_us, used)
        if found is None:
            for cell in place.cells:
                cell.add(used, cost_pico, rates)
        else:
            (place.others or place.second()).add(used, cost_pico, rates)
        if place.variant is not None:
            place.variant.add(used, cost_pico)
        if event is not None:
            place.whole += 1
        if used.warnings:
            place.warned[used.warnings] = place.warned.get(used.warnings, 0) + 1
        kept, rank = place.kept, crc32((request.session_id or request_id).encode())
        if rank <= kept.sampled or used.latency_us >= kept.slow_us or used.error_type is not None:
            self._recent.offer(kept, rank, request_id, request, response, used, cost_pico, event)
        if request.user_id or request.session_id:
            self._visits.count(window, request, place.series, used, cost_pico)

    def _place(self, said: _Said, window: int, request: RequestHalf, response: ResponseHalf) -> _Place:
        """Where to add a call, and those that say the same, in this epoch."""
        if len(self._places) == _PLACES:
            self._fold()
        tenant_id = request.tenant_id
        route, model, capped = self._caps.series(window, tenant_id, request.route, request.model)
        told = self._facets_of(window, model, request, response)
        own = self._partials.change(self._partials.key(window, tenant_id, route, model))
        cells = (own, *[self._faceted.change(key) for key in told.rows])
        capped += told.capped
        entry = self._ledger.entry(window, tenant_id)
        variant = None if told.variant is None else self._observed.experiments.change(told.variant)
        kept = self._recent.minute(window, tenant_id)
        price = self._prices.of_model(request, response)
        sender = response.sender or request.sender or UNKNOWN
        place = self._places[said] = _Place(cells, capped, entry, price, (route, model), variant, kept, sender)
        return place

    def _facets_of(self, window: int, model: str, request: RequestHalf, response: ResponseHalf) -> _Told:
        """Where a call's facets count; many series tell the same. `model` is the name under which its model counts."""
        tenant_id = request.tenant_id
        said = (window, tenant_id, model, request.provider, request.facets, response.facets, response.error_type)
        found = self._told.get(said)
        if found is None:
            if len(self._told) == _KNOWN:
                self._told.clear()
            rows, capped, variant = list[bytes](), list[str](), None
            texts = self._facets.of_call(request.provider, request.facets, response.facets, response.error_type)
            for text in texts:
                facet, _, value = text.partition("\0")
                if facet == "model_version" and not (value := version_of(model, value)):
                    continue
                admitted = self._caps.admit(window, tenant_id, facet, value)
                key = self._faceted.key(window, tenant_id, facet, admitted)
                rows.append(key)
                if admitted != value:
                    capped.append(facet)
                if facet == "variant":
                    variant = self._observed.experiments.key(window, tenant_id, admitted)
            found = self._told[said] = _Told(tuple(rows), tuple(capped), variant)
        return found

    def _fold(self) -> None:
        """Bring all cells, warnings and bookings up to date; each call that comes looks for its place anew."""
        warned: Counter[tuple[int, str, str, tuple[str, ...]]] = Counter()
        for (window, tenant_id, *_), place in self._places.items():
            calls = place.fold()
            for rules, times in place.warned.items():
                warned[window, tenant_id, place.sender, rules] += times
            if place.capped:
                self._observed.capped(window, tenant_id, place.capped, calls)
        for (window, tenant_id, sender, rules), times in warned.items():
            for rule in rules:
                self._observed.warn(window, tenant_id, rule, sender, times)
        self._places.clear()
        for at, tenant, kind, calls in self._visits.beyond():
            self._observed.capped(at, tenant, (kind,), calls)

    def flush(self, expired: int) -> None:
        """Before those of what is observed and of the ledger."""
        self._fold()
        self._partials.flush(expired)
        self._faceted.flush(expired)
        self._recent.flush(expired)
        self._visits.flush(expired)

    def rest(self, closed: int) -> None:
        self._told = {said: rows for said, rows in self._told.items() if said[0] > closed}
        self._partials.rest(closed)
        self._faceted.rest(closed)
        self._recent.rest(closed)
        self._visits.rest(closed)
