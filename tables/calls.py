"""Where a joined call counts: in the cell of its series, and in one more for each facet that it has."""

from streamlens.cell import Cell
from streamlens.checkpoint.state import State
from streamlens.facets import Facets
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.metrics import SERIES_OVERFLOW
from streamlens.rates import Rates
from streamlens.usage import Usage
from tables import faceted, partials
from tables.caps import Caps
from tables.faceted import Faceted
from tables.ledger import Entry, Ledger
from tables.observed import Observed
from tables.partials import Partials
from tables.spread import Spread
from tables.tallies import CARDINALITY

_SPREADS = 5_000
"""So many at a time: calls that never say the same twice must not fill the memory within an epoch."""


class Calls:
    """The cells of one partition, by series and by facet."""

    prefixes = partials.PREFIX + faceted.PREFIX

    def __init__(self, caps: Caps, facets: Facets, observed: Observed, ledger: Ledger) -> None:
        self._caps = caps
        self._facets = facets
        self._observed = observed
        self._ledger = ledger
        self._partials = Partials()
        self._faceted = Faceted()
        # Where calls of this epoch count, and how many of them broke which rule, by (rule, sender).
        self._rows: dict[tuple[object, ...], tuple[Cell | Spread, Entry, dict[tuple[str, str | None], int]]] = {}
        self._spreads: list[tuple[int, str, Spread]] = []

    def open(self, state: State, closed: int) -> None:
        self._partials.open(state)
        self._faceted.open(state)
        for window, (tenant_id, route, model) in self._partials.names(closed + 1):
            self._caps.seen_series(window, tenant_id, route, model)
        for window, (tenant_id, facet, value) in self._faceted.names(closed + 1):
            self._caps.seen(window, tenant_id, facet, value)

    def count(
        self,
        window: int,
        request: RequestHalf,
        response: ResponseHalf,
        used: Usage,
        cost_pico: int | None,
        rates: Rates | None,
        events: int,
    ) -> None:
        """Count a call of one or two events in a window, as `Cell.add`; it has the facets that its halves tell."""
        said = (
            window,
            request.tenant_id,
            request.route,
            request.model,
            request.provider,
            request.facets,
            response.facets,
            response.error_type,
        )
        row = self._rows.get(said)
        if row is None:
            if len(self._spreads) == _SPREADS:
                self._fold()
            facets = self._facets.of_call(request.provider, request.facets, response.facets, response.error_type)
            cell = self._cell(window, request, facets)
            row = self._rows[said] = cell, self._ledger.entry(window, request.tenant_id), {}
        row[0].add(used, cost_pico, rates)
        row[1].aggregate(events)
        for rule in used.warnings:
            broken = rule, response.sender or request.sender
            row[2][broken] = row[2].get(broken, 0) + 1

    def _cell(self, window: int, request: RequestHalf, facets: tuple[str, ...]) -> Cell | Spread:
        """What to add a call to, and those that say the same."""
        tenant_id = request.tenant_id
        route, model, capped = self._caps.series(window, tenant_id, request.route, request.model)
        cells = [self._partials.cell(window, tenant_id, route, model)]
        for text in facets:
            facet, _, value = text.partition("\0")
            admitted = self._caps.admit(window, tenant_id, facet, value)
            if admitted != value:
                capped += (facet,)
            cells.append(self._faceted.cell(window, tenant_id, facet, admitted))
        if len(cells) == 1 and not capped:
            return cells[0]
        spread = Spread(tuple(cells), capped)
        self._spreads.append((window, tenant_id, spread))
        return spread

    def _fold(self) -> None:
        """Bring all cells and warnings up to date; each call that comes looks for its cells anew."""
        for (window, tenant_id, *_), (_, _, warned) in self._rows.items():
            for (rule, sender), calls in warned.items():
                self._observed.warn(window, tenant_id, rule, sender, calls)  # type: ignore[arg-type]  # as in `count`
        self._rows.clear()
        for window, tenant_id, spread in self._spreads:
            calls = spread.fold()
            for label in spread.capped:
                SERIES_OVERFLOW.labels(tenant_id, label).inc(calls)
                self._observed.tallies.tally(window, tenant_id, "warning", CARDINALITY, label).add(times=calls)
        self._spreads.clear()

    def flush(self, expired: int) -> None:
        """Before those of what is observed and of the ledger."""
        self._fold()
        self._partials.flush(expired)
        self._faceted.flush(expired)

    def rest(self, closed: int) -> None:
        self._partials.rest(closed)
        self._faceted.rest(closed)
