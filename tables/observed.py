"""Where evaluations, lines of logs, system metrics and warnings count, and which lines are kept.

An evaluation's identity is (request id, tenant, name, evaluator), that of the others a hash of their bytes. It is
remembered as a joined request id is, so what is sent twice counts once.
"""

import re
from typing import Any

import msgspec

from streamlens.checkpoint.state import State
from streamlens.facets import Facets
from streamlens.fields import Scalars
from streamlens.mappings import digest
from streamlens.metrics import SERIES_OVERFLOW
from streamlens.observations import AppLog, Evaluation, SystemMetric
from streamlens.scores import MILLION
from tables import evaluations, experiments, kept, tallies
from tables.caps import OTHER, Caps
from tables.evaluations import Evaluations
from tables.experiments import Experiments
from tables.kept import Kept, Record
from tables.ledger import Ledger
from tables.pending import Pending
from tables.tallies import CARDINALITY, Tallies
from tables.windowed import Windowed

UNKNOWN = "unknown"
"""The route, model or service of what does not say one."""
_QUIET = ("DEBUG", "INFO")


class Observed:
    """The rows of one partition that are no calls."""

    prefixes = evaluations.PREFIX + tallies.PREFIX + kept.PREFIX + experiments.PREFIX

    def __init__(self, caps: Caps, facets: Facets, pending: Pending, ledger: Ledger) -> None:
        self._caps = caps
        self._facets = facets
        self._pending = pending
        self._ledger = ledger
        self._evaluations = Evaluations()
        self._kept = Kept()
        self.tallies = Tallies()
        self.experiments = Experiments()
        self._families: tuple[Windowed[Any], ...] = (self._evaluations, self.tallies, self._kept, self.experiments)

    def open(self, state: State, closed: int) -> None:
        for family in self._families:
            family.open(state, closed)
        for window, (tenant_id, route, model, name) in self._evaluations.names(closed + 1):
            self._caps.seen_series(window, tenant_id, route, model)
            self._caps.seen(window, tenant_id, "evaluation", name)
        for window, (tenant_id, kind, name, detail) in self.tallies.names(closed + 1):
            self._caps.seen(window, tenant_id, kind, name)
            self._caps.seen(window, tenant_id, f"{kind} detail", f"{name}\0{detail}")
        for window, (tenant_id, variant) in self.experiments.names(closed + 1):
            self._caps.seen(window, tenant_id, "variant", variant)

    def evaluation(self, event: Evaluation, ts_us: int, window: int, raw: bytes) -> None:
        """Count how good a call was, once by each evaluator."""
        tenant_id = event.tenant_id
        identity = f"{event.request_id}\0{tenant_id}\0{event.name}\0{event.evaluator or ''}"
        if not self._is_new(identity, window, tenant_id):
            return
        route, model, capped = self._caps.series(window, tenant_id, event.route or UNKNOWN, event.model or UNKNOWN)
        name = self._caps.admit(window, tenant_id, "evaluation", event.name)
        self._evaluations.scores(window, tenant_id, route, model, name).add(event.score, event.label)
        if name != event.name:
            capped += ("evaluation",)
        variant = self._facets.variant_of(event.experiment)
        if variant is not None and event.score is not None:
            admitted = self._caps.admit(window, tenant_id, "variant", variant)
            self.experiments.variant(window, tenant_id, admitted).add_score(name, event.score)
            if admitted != variant:
                capped += ("variant",)
        self.capped(window, tenant_id, capped)

    def log(self, event: AppLog, ts_us: int, window: int, raw: bytes) -> None:
        """Count a line of a log; the first ones of a minute are kept, loud ones apart from quiet ones."""
        log_id = digest(raw)
        if not self._is_new("\0" + log_id, window, event.tenant_id):
            return
        service = event.service or UNKNOWN
        self._tally(window, event.tenant_id, "log", service, event.level)
        kind = "log" if event.level in _QUIET else "log.loud"
        self._kept.add(window, event.tenant_id, kind, log_id, lambda: Record(ts_us, _line(event, service)))

    def metric(self, event: SystemMetric, ts_us: int, window: int, raw: bytes) -> None:
        """Count a measurement."""
        if not self._is_new("\0" + digest(raw), window, event.tenant_id):
            return
        tags: Scalars = {"unit": event.unit} if event.unit else {}
        tags |= {name: value for name, value in (event.tags or {}).items() if value is not None}
        detail = ",".join(f"{_escaped(name)}={_escaped(value)}" for name, value in sorted(tags.items()))
        self._tally(window, event.tenant_id, "metric", event.name, detail, round(event.value * MILLION))

    def warn(self, window: int, tenant_id: str, rule: str, sender: str, calls: int) -> None:
        """Count calls of a sender that broke a rule of quality."""
        self._tally(window, tenant_id, "warning", rule, sender, times=calls)

    def capped(self, window: int, tenant_id: str, labels: tuple[str, ...], times: int = 1) -> None:
        """Warn that names of these labels had no room."""
        for label in labels:
            SERIES_OVERFLOW.labels(tenant_id, label).inc(times)
            self.tallies.tally(window, tenant_id, "warning", CARDINALITY, label).add(times=times)

    def flush(self, expired: int) -> None:
        for family in self._families:
            family.flush(expired)

    def rest(self, closed: int) -> None:
        for family in self._families:
            family.rest(closed)

    def _is_new(self, identity: str, window: int, tenant_id: str) -> bool:
        """Book an event: counted, unless it is repeated. No request id has a NUL, so it is never taken for one."""
        if self._pending.repeats(identity, window):
            self._ledger.book(window, tenant_id, "duplicate")
            return False
        self._pending.mark(identity, window)
        self._ledger.entry(window, tenant_id).aggregate(1)
        return True

    def _tally(
        self, window: int, tenant_id: str, kind: str, name: str, detail: str, value: int = 0, times: int = 1
    ) -> None:
        known = self._caps.admit(window, tenant_id, kind, name)
        if self._caps.admit(window, tenant_id, f"{kind} detail", f"{known}\0{detail}") == OTHER:
            detail = OTHER
        self.tallies.tally(window, tenant_id, kind, known, detail).add(value, times)
        if known != name or detail == OTHER:
            self.capped(window, tenant_id, (kind,), times)


def _line(event: AppLog, service: str) -> bytes:
    """What is kept of a line besides its tenant and time, as JSON."""
    said = {
        "level": event.level,
        "service": service,
        "message": event.message,
        "attributes": event.attributes,
        "request_id": event.request_id,
        "session_id": event.session_id,
    }
    return msgspec.json.encode({name: value for name, value in said.items() if value is not None})


def _escaped(value: object) -> str:
    """A tag's name or value; "," and "=" are what stands between them."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return re.sub(r"([\\,=])", r"\\\1", text)
