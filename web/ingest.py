"""`POST /v1/llm/…`: events come in, are validated, and are in the log before the answer says so.

What is written are the bytes as sent, and who has sent them; the worker validates them again, as it does for those of
other producers. `web/intake.py` has the kinds of events that are not our own.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import cache
from time import perf_counter
from typing import Any

import msgspec
import orjson
from aiohttp import web
from faust.web import View

from streamlens.app import app
from streamlens.errors import BadEvent, Unavailable
from streamlens.events import MAX_EVENT_BYTES, decode, decode_typed, kind_of, time_us
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Record
from streamlens.mappings import SOURCES, record_key
from streamlens.metrics import EVENTS, INGEST_BYTES
from streamlens.partitioner import id_partition_of
from streamlens.topics import CALLS, INPUTS, OBSERVATIONS
from tables.ledger import NOBODY
from web.arrival import Arrival
from web.batches import Batches
from web.body import body_of
from web.contract import declares
from web.problem import Problem
from web.sent import Accepted, AcceptedMany, many, one
from web.services import current

TOPICS = {kind: topic for topic, kind in (INPUTS | OBSERVATIONS).items()} | dict.fromkeys(SOURCES, CALLS)
MAX_ERRORS = 100
"""So many bad events of a bulk body are named; all are counted."""

_SLICE_S = 0.02
"""A bulk body gives way to other requests after this much work."""
_ACCEPTED = orjson.dumps({"status": "accepted"})
_MIN_EVENT_BYTES = 20
"""No event is as small, by far; only bodies full of junk have items of fewer bytes on average."""
_tp = cache(TP)
_events = cache(EVENTS.labels)
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_one = msgspec.json.Decoder(msgspec.Raw).decode


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an event belongs, its record, which says who has sent it, and whose it is: `NOBODY` if it does not say."""

    kind: str
    topic: str
    key: bytes
    record: Record
    tenant_id: str


class _Event(View):
    """One event of the kind that a subclass names."""

    kind: str

    @declares(body=lambda view: one(view.kind), answer=Accepted, status=202)
    async def post(self, request: web.Request, **_: Any) -> web.Response:
        services = current()
        try:
            async with body_of(request, MAX_EVENT_BYTES) as body:
                INGEST_BYTES.inc(len(body))
                arrival = Arrival.of(request, services)
                raw = arrival.key.stamped(body)
                place = placed(self.kind, decode(self.kind, raw), raw, arrival)
                if services.rate_limit is not None:
                    services.rate_limit.take({place.tenant_id: 1})
                tp = _tp(place.topic, id_partition_of(place.key, services.partitions))
                await _append(services.log, {tp: [place.record]})
        except (Problem, BadEvent):
            _events(self.kind, "rejected").inc()
            raise
        _events(self.kind, "accepted").inc()
        return web.Response(status=202, body=_ACCEPTED, content_type="application/json")


@app.page("/v1/llm/request")
class RequestEvent(_Event):
    """A request was sent to a model."""

    kind = "request"


@app.page("/v1/llm/response")
class ResponseEvent(_Event):
    """The model has answered."""

    kind = "response"


@app.page("/v1/llm/call")
class CallEvent(_Event):
    """A request and its response in one."""

    kind = "call"


@app.page("/v1/llm/events")
class Events(View):
    """One or many events, as NDJSON or a JSON array; each has `type`. Good ones count, bad ones are named by index."""

    kind = "typed"
    """What `web.sent` calls them."""

    def place(self, raw: bytes, arrival: Arrival) -> Place:
        """Validate an event and find its place. Raises `BadEvent`."""
        raw = arrival.key.stamped(raw)
        kind, event = decode_typed(raw)
        return placed(kind, event, raw, arrival)

    def kind_of_bad(self, raw: bytes) -> str:
        """The kind as which an event counts that has no place."""
        try:
            return kind_of(raw)
        except BadEvent:
            return "unknown"

    @declares(body=lambda view: many(view.kind), answer=AcceptedMany, status=202)
    async def post(self, request: web.Request, **_: Any) -> web.Response:
        services = current()
        try:
            async with body_of(request, services.settings.max_body_mib << 20) as body:
                INGEST_BYTES.inc(len(body))
                bulk = await _sorted(body, self, Arrival.of(request, services))
                if services.rate_limit is not None:
                    services.rate_limit.take(bulk.tenants)
                if batches := bulk.batches.placed():
                    await _append(services.log, batches)
        except (Problem, BadEvent):
            _events("unknown", "rejected").inc()
            raise
        for counts, outcome in ((bulk.accepted, "accepted"), (bulk.rejected, "rejected")):
            for kind, count in counts.items():
                _events(kind, outcome).inc(count)
        answer = {"accepted": bulk.accepted.total(), "rejected": bulk.rejected.total(), "errors": bulk.errors}
        if not batches:
            first = bulk.errors[0]
            raise Problem(400, f"no event is good; the first: {first['detail']}", field=first["field"], extra=answer)
        body = orjson.dumps({"status": "accepted", **answer})
        return web.Response(status=202, body=body, content_type="application/json")


class _Bulk:
    """The events of one body, sorted by partition; `errors` has the first bad ones."""

    def __init__(self, partitions: int) -> None:
        self.batches = Batches(partitions)
        self.tenants: Counter[str] = Counter()
        """How many events each has sent; those that name no tenant are nobody's."""
        self.accepted: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.errors: list[dict[str, Any]] = []


async def _sorted(body: bytes, view: Events, arrival: Arrival) -> _Bulk:
    """Validate each event of `body`. Raises `BadEvent` when there is none, or the array itself is malformed."""
    bulk = _Bulk(arrival.services.partitions)
    pause_at = perf_counter() + _SLICE_S
    index = -1
    for index, raw in enumerate(_items(body)):
        try:
            _check_size(raw)
            place = view.place(raw, arrival)
        except BadEvent as error:
            bulk.tenants[arrival.key.tenant_id or NOBODY] += 1
            bulk.rejected[view.kind_of_bad(raw)] += 1
            if len(bulk.errors) < MAX_ERRORS:
                bulk.errors.append({"index": index, "field": error.field, "detail": error.detail})
        else:
            bulk.accepted[place.kind] += 1
            bulk.batches.add(place.topic, place.key, place.record)
            bulk.tenants[place.tenant_id] += 1
        if perf_counter() > pause_at:
            bulk.batches.placed()
            await asyncio.sleep(0)
            pause_at = perf_counter() + _SLICE_S
    if index < 0:
        raise BadEvent("", "the body has no events")
    return bulk


def _items(body: bytes) -> Iterator[bytes]:
    """The events of an array, a single one on as many lines as it likes, or the lines of NDJSON that are not blank."""
    if _is_one(body):
        yield body.strip()
        return
    if body.lstrip()[:1] == b"[":
        try:
            items = _split_array(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadEvent("", f"not a JSON array: {error}") from None
        except RecursionError:
            raise BadEvent("", "nested too deeply") from None
        _check_density(len(items), body)
        yield from map(bytes, items)
        return
    _check_density(body.count(b"\n"), body)
    for line in body.split(b"\n"):
        if event := line.strip():
            yield event


def _is_one(body: bytes) -> bool:
    if body.lstrip()[:1] != b"{":
        return False
    try:
        _one(body)  # ends at the second line of NDJSON
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _check_density(count: int, body: bytes) -> None:
    """Refuse millions of `{}` at once, instead of one after the other."""
    if count > 1000 and count * _MIN_EVENT_BYTES > len(body):
        raise BadEvent("", "more items than a body of this size can have as events")


def _check_size(raw: bytes) -> None:
    if len(raw) > MAX_EVENT_BYTES:
        raise BadEvent("", f"larger than {MAX_EVENT_BYTES:,} bytes")


def placed(kind: str, event: Any, raw: bytes, arrival: Arrival) -> Place:
    """The place of a valid event. Raises `BadEvent` when it comes from the future, or is not its sender's to send."""
    arrival.key.must_own(event.tenant_id)
    if time_us(event.timestamp) > arrival.latest_us:
        raise BadEvent("timestamp", f"more than {arrival.services.settings.max_future_s} s in the future")
    if event.sender is None:
        raw = raw.replace(b"{", arrival.sender, 1)
    key = record_key(kind, event, raw)
    return Place(kind, TOPICS[kind], key, Record(key, raw), event.tenant_id or NOBODY)


async def _append(log: Log, batches: dict[TP, list[Record]]) -> None:
    """Write, and return when all is durable. Raises `Unavailable` when it is not, or when nobody can tell."""
    offsets = await log.append(batches)
    if UNKNOWN_OFFSET in offsets.values():
        raise Unavailable("the log did not confirm the write; send again, what is repeated counts once")
