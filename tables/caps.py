"""How many names a tenant may have: what is beyond counts as `OTHER`, so that junk names cost neither rows nor memory.

A name holds its place while a window is open that has it. Names are kept per partition of stage one and follow from the
keys of its rows, so they need no state of their own.
"""

from collections.abc import Mapping

OTHER = "__other__"
MAX_VALUES = 200
"""Of one facet, of evaluation names, and whatever has no setting, per tenant and partition."""

_MAX_SERIES_BYTES = 2_600
"""Of tenant, route and model in UTF-8, so that PostgreSQL can index them."""


class Caps:
    """The names of each tenant by label (route, model, …), with the last window in which each was seen."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        """`limits` by label; `MAX_VALUES` for any other."""
        self._limits = limits
        self._names: dict[tuple[str, str], dict[str, int]] = {}

    def admit(self, window: int, tenant_id: str, label: str, name: str) -> str:
        """`name` itself if it has, or now gets, a place among the tenant's; else `OTHER`."""
        names = self._names.get((tenant_id, label))
        if names is None:
            names = self._names[tenant_id, label] = {}
        last = names.get(name)
        if last is None and (name == OTHER or len(names) >= self._limits.get(label, MAX_VALUES)):
            return OTHER
        if last is None or window > last:
            names[name] = window
        return name

    def series(self, window: int, tenant_id: str, route: str, model: str) -> tuple[str, str, tuple[str, ...]]:
        """Route and model under which a series counts, and the labels that had no room: route, model or series."""
        if len(f"{tenant_id}{route}{model}".encode()) > _MAX_SERIES_BYTES:
            return OTHER, OTHER, ("series",)
        known_route = self.admit(window, tenant_id, "route", route)
        known_model = self.admit(window, tenant_id, "model", model)
        capped: tuple[str, ...] = ()
        if known_route != route:
            capped += ("route",)
        if known_model != model:
            capped += ("model",)
        if known_route == known_model == OTHER:
            return OTHER, OTHER, capped
        if self.admit(window, tenant_id, "series", f"{known_route}\0{known_model}") == OTHER:
            return OTHER, OTHER, (*capped, "series")
        return known_route, known_model, capped

    def seen_series(self, window: int, tenant_id: str, route: str, model: str) -> None:
        """A row is of this series already."""
        self.seen(window, tenant_id, "route", route)
        self.seen(window, tenant_id, "model", model)
        if (route, model) != (OTHER, OTHER):
            self.seen(window, tenant_id, "series", f"{route}\0{model}")

    def seen(self, window: int, tenant_id: str, label: str, name: str) -> None:
        """A row has this name already: it keeps its place, whatever the limit is by now."""
        if name != OTHER:
            names = self._names.setdefault((tenant_id, label), {})
            names[name] = max(window, names.get(name, -1))

    def rest(self, closed: int) -> None:
        """Forget the names of which no window is open any more."""
        for place, names in list(self._names.items()):
            for name in [name for name, last in names.items() if last <= closed]:
                del names[name]
            if not names:
                del self._names[place]
