"""`Client` and `AsyncClient`: one method a kind of event, which encodes it, appends it to the buffer, and returns."""

import asyncio
import atexit
import json
import os
import time
import uuid
import weakref
from typing import Any, Self

from .buffer import Buffer, Event, Stats
from .post import Post
from .sender import Sender
from .timed import Timed

MAX_EVENT_BYTES = 512 * 1024
EXIT_TIMEOUT_S = 5.0
"""So long the end of the interpreter waits for what is not sent yet."""


class _Recorder:
    """What both have. Ids and times are made when an event is recorded, so that repeating it changes nothing."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        tenant_id: str | None = None,
        sender: str | None = None,
        max_events: int = 20_000,
        max_bytes: int = 32 << 20,
        batch_events: int = 500,
        interval_s: float = 1.0,
        timeout_s: float = 10.0,
    ) -> None:
        """`tenant_id` and `sender` are put into events that name none. When `max_events` wait, or `max_bytes`, new ones
        are dropped. A body leaves with `batch_events`, or after `interval_s`; it is sent again when the server is
        silent for `timeout_s`. Raises `ValueError`."""
        if min(max_events, max_bytes, batch_events, interval_s, timeout_s) <= 0:
            raise ValueError("sizes and times have to be above 0")
        self._post = Post(url, key, timeout_s)
        self._bounds = (max_events, max_bytes, batch_events, interval_s)
        given = {"tenant_id": tenant_id, "sender": sender}
        self._defaults = {name: value for name, value in given.items() if value is not None}
        self._begin()
        _recorders.add(self)
        atexit.register(self._close, EXIT_TIMEOUT_S)

    def _begin(self) -> None:
        self._buffer = Buffer(*self._bounds)
        self._sender = Sender(self._buffer, self._post)

    def _begin_after_fork(self) -> None:
        """The child has neither the thread nor the right to its events: the parent sends them."""
        closed = self._buffer.closed
        self._begin()
        self._buffer.closed = closed

    def call(self, *, route: str, model: str, latency_ms: float, request_id: str | None = None, **fields: Any) -> str:
        """A call that is over now; returns its `request_id`. `fields`, here and below, are those of `docs/api.md`."""
        request_id = request_id or uuid.uuid4().hex
        whole = {"request_id": request_id, "route": route, "model": model, "latency_ms": latency_ms, **fields}
        self._record_call(whole)
        return request_id

    def timed(self, *, route: str, model: str, request_id: str | None = None, **fields: Any) -> Timed:
        """A call that is about to be made: the block of a `with`."""
        request_id = request_id or uuid.uuid4().hex
        return Timed(self._record_call, {"request_id": request_id, "route": route, "model": model, **fields})

    def request(self, *, route: str, model: str, request_id: str | None = None, **fields: Any) -> str:
        """The first half of a call; returns its `request_id`, which the second needs."""
        request_id = request_id or uuid.uuid4().hex
        half = {"type": "request", "request_id": request_id, "route": route, "model": model, **fields}
        self._record("/v1/llm/events", half)
        return request_id

    def response(self, request_id: str, **fields: Any) -> None:
        """The second half: the model has answered, or failed."""
        self._record("/v1/llm/events", {"type": "response", "request_id": request_id, **fields})

    def evaluation(self, request_id: str, name: str, *, score: float | None = None, **fields: Any) -> None:
        """How good a call was, in one respect: a `score`, a `label`, or both."""
        self._record("/v1/evaluations", {"request_id": request_id, "name": name, "score": score, **fields})

    def log(self, level: str, message: str, **fields: Any) -> None:
        """A line of the application's log. Its id makes two equal lines of one moment two."""
        line = {"event_id": uuid.uuid4().hex, "level": level, "message": message, **fields}
        self._record("/api/v1/ingest/app", line)

    def metric(self, name: str, value: float, **fields: Any) -> None:
        """One measurement."""
        measured = {"event_id": uuid.uuid4().hex, "name": name, "value": value, **fields}
        self._record("/api/v1/ingest/metrics", measured)

    @property
    def stats(self) -> Stats:
        """What has become of the events of this process."""
        return self._buffer.stats

    def _record_call(self, fields: dict[str, Any]) -> None:
        self._record("/v1/llm/events", {"type": "call", **fields}, ago_ms=fields["latency_ms"])

    def _record(self, path: str, fields: dict[str, Any], ago_ms: float = 0) -> None:
        """Never raises: what can't be sent is counted."""
        try:
            event = self._defaults | {name: value for name, value in fields.items() if value is not None}
            if "timestamp" not in event:
                event["timestamp"] = time.time_ns() // 1_000_000 - round(ago_ms)
            raw = _encode(event).encode()
        except Exception as error:  # whatever the methods of foreign values raise
            return self._reject(f"can't be encoded: {type(error).__name__}")
        if len(raw) > MAX_EVENT_BYTES:
            return self._reject(f"larger than {MAX_EVENT_BYTES:,} bytes")
        taken = self._buffer.put(Event(path, raw)) if self._sender.start() else self._buffer.drop()
        if not taken:
            self._sender.warn()
        return None

    def _reject(self, reason: str) -> None:
        self._buffer.reject(reason)
        self._sender.warn()

    def _close(self, timeout_s: float) -> bool:
        all_sent = self._buffer.close(timeout_s)
        atexit.unregister(self._close)
        self._sender.warn(last=True)
        return all_sent


class Client(_Recorder):
    """For threads. As a context manager it closes itself."""

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all that was recorded is sent or rejected. False: not within `timeout_s`."""
        return self._buffer.flush(timeout_s)

    def close(self, timeout_s: float = EXIT_TIMEOUT_S) -> bool:
        """Flush, then drop what is left (False) and whatever comes later."""
        return self._close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Recorder):
    """For asyncio: waiting for the server leaves the loop free. Recording never waits, so it is not awaited."""

    async def flush(self, timeout_s: float = 10.0) -> bool:
        """As that of `Client`."""
        return await asyncio.to_thread(self._buffer.flush, timeout_s)

    async def close(self, timeout_s: float = EXIT_TIMEOUT_S) -> bool:
        """As that of `Client`."""
        return await asyncio.to_thread(self._close, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _plain(value: Any) -> str:
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def _begin_all_after_fork() -> None:
    for recorder in list(_recorders):
        recorder._begin_after_fork()


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode
_recorders: weakref.WeakSet[_Recorder] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_after_fork)
