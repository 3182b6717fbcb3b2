"""Events in the words of other systems, and what is told besides calls: one or many in a body, as JSON or NDJSON.

LLM logs, telemetry and service events are written as the calls that they stand for (`streamlens.mappings`).
"""

from streamlens.app import app
from streamlens.errors import BadEvent
from streamlens.events import decode
from streamlens.mappings import NAMES, call_of, completed
from web.arrival import Arrival
from web.ingest import Events, Place, placed


class _OfOneKind(Events):
    def kind_of_bad(self, raw: bytes) -> str:
        return self.kind


class _Calls(_OfOneKind):
    """Finished calls of the kind of `SOURCES` that a subclass names."""

    def place(self, raw: bytes, arrival: Arrival) -> Place:
        call = call_of(self.kind, raw, arrival.received_us, arrival.tenant_id)
        try:
            return placed(self.kind, decode("call", call), call, arrival)
        except BadEvent as error:
            raise BadEvent(NAMES[self.kind].get(error.field, error.field), error.detail) from None


class _Observations(_OfOneKind):
    """Observations of the kind that a subclass names, written as they were sent."""

    def place(self, raw: bytes, arrival: Arrival) -> Place:
        raw = completed(raw, arrival.received_us, arrival.tenant_id)
        return placed(self.kind, decode(self.kind, raw), raw, arrival)


@app.page("/api/v1/ingest/llm")
class LlmLogs(_Calls):
    """Calls of models as their application logs them, one or many."""

    kind = "llm_log"


@app.page("/api/v1/ingest/llm/bulk")
class LlmLogBulk(LlmLogs):
    """The same as `/api/v1/ingest/llm`."""


@app.page("/v1/events")
class Telemetry(_Calls):
    """Calls of models as an application's telemetry tells of them, one or many."""

    kind = "telemetry"


@app.page("/v1/services/events")
class ServiceEvents(_Calls):
    """Requests that a service has answered, one or many."""

    kind = "service"


class EvaluationEvents(_Observations):
    """How good calls were, one or many. `GET` has the page, which is in `web/observed.py`."""

    kind = "evaluation"


@app.page("/api/v1/ingest/app")
class AppLogs(_Observations):
    """Lines of an application's log, one or many."""

    kind = "log"


@app.page("/api/v1/ingest/metrics")
class SystemMetrics(_Observations):
    """Measurements of systems, one or many."""

    kind = "metric"
