"""`POST /v1/traces`, `/v1/logs`, `/v1/metrics`: OpenTelemetry over HTTP, as protobuf or JSON.

`take` is what all transports of OTLP share: a decoded request in, its good items in the log, the others told.
"""

import asyncio
from collections import Counter
from functools import cache
from time import perf_counter
from typing import Any

import msgspec
from aiohttp import web
from faust.web import View

from streamlens import events
from streamlens.app import app
from streamlens.errors import BadEvent
from streamlens.metrics import EVENTS, INGEST_BYTES
from streamlens.otlp.messages import JSON, LOGS, METRICS, PROTOBUF, TRACES, Signal, answer, decode
from tables.ledger import NOBODY
from web.arrival import Arrival
from web.batches import Batches
from web.body import body_of
from web.contract import Body, declares
from web.ingest import _SLICE_S, _append, placed
from web.problem import Problem
from web.rpcstatus import TYPES
from web.services import current

MAX_TOLD = 10
"""So many bad items of a request are named; all are counted."""
_counted = cache(EVENTS.labels)


class Taken(msgspec.Struct):
    """What became of the items of a request. Spans that are no call of a model are neither accepted nor rejected."""

    accepted: int = 0
    rejected: int = 0
    ignored: int = 0
    refusals: list[str] = msgspec.field(default_factory=list)
    """Of the first that were rejected, each once."""

    @property
    def message(self) -> str:
        """What to tell of the rejected ones, "" if there are none."""
        return f"{self.rejected} not taken: " + "; ".join(self.refusals) if self.rejected else ""


async def take(signal: Signal, request: Any, arrival: Arrival) -> Taken:
    """Write the good items of a decoded request, and return when they are durable. Raises `Unavailable` when they are
    not, or one of their tenants sends too many: the whole request has to come again, what is repeated counts once."""
    taken = Taken()
    batches = Batches(arrival.services.partitions)
    tenants: Counter[str] = Counter()
    pause_at = perf_counter() + _SLICE_S
    for item, event in signal.read(request, arrival.key.tenant_id, arrival.received_us):
        try:
            if event is None:
                taken.ignored += 1
            elif isinstance(event, BadEvent):
                raise event
            else:
                place = placed(signal.kind, events.decode(signal.kind, event), event, arrival)
                batches.add(place.topic, place.key, place.record)
                tenants[place.tenant_id] += 1
                taken.accepted += 1
        except BadEvent as error:
            tenants[arrival.key.tenant_id or NOBODY] += 1
            taken.rejected += 1
            if len(taken.refusals) < MAX_TOLD and (told := signal.refusal(item, error)) not in taken.refusals:
                taken.refusals.append(told)
        if perf_counter() > pause_at:
            batches.placed()
            await asyncio.sleep(0)
            pause_at = perf_counter() + _SLICE_S
    if arrival.services.rate_limit is not None:
        arrival.services.rate_limit.take(tenants)
    if found := batches.placed():
        await _append(arrival.services.log, found)
    for outcome in ("accepted", "rejected", "ignored"):
        if count := getattr(taken, outcome):
            _counted(signal.counted_as, outcome).inc(count)
    return taken


class _Exported(View):
    """A request with the signal that a subclass names."""

    signal: Signal

    @declares(body=Body(kinds=(PROTOBUF, JSON)), kinds=(PROTOBUF, JSON))
    async def post(self, request: web.Request, **_: Any) -> web.Response:
        services, signal, kind = current(), self.signal, request.content_type
        try:
            async with body_of(request, services.settings.max_body_mib << 20, TYPES) as body:
                INGEST_BYTES.inc(len(body))
                taken = await take(signal, decode(signal, kind, body), Arrival.of(request, services))
        except (Problem, BadEvent):
            _counted(signal.counted_as, "rejected").inc()
            raise
        body = answer(signal, kind, taken.rejected, taken.message)
        return web.Response(body=body, content_type=kind)


@app.page("/v1/traces")
class ExportedSpans(_Exported):
    """OpenTelemetry spans, of which calls of a model count."""

    signal = TRACES


@app.page("/v1/logs")
class ExportedLogs(_Exported):
    """OpenTelemetry log records: lines of logs."""

    signal = LOGS


class ExportedMetrics(_Exported):
    """OpenTelemetry data points of metrics: measurements of systems. `GET` has the page, which is in `web/query.py`."""

    signal = METRICS
