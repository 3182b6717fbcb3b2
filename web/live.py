"""`GET /v1/live`: rows as they change, as server-sent events."""

import asyncio
from importlib.metadata import version
from typing import Any

import orjson
from aiohttp import web
from faust.web import View

from streamlens.app import app
from streamlens.listener import Event, Listener
from web.access import admit, need_of
from web.asked import Asked, read
from web.contract import declares
from web.problem import Problem
from web.services import current

BEAT_S = 15.0
"""After so long without an event a comment is sent, so that proxies and clients know that the stream lives."""
LOOK_S = 1.0
"""How soon it is seen that a client has gone, or that its key was revoked."""
SLOW_S = 60.0
"""A client that has taken nothing for so long is let go."""
RETRY_MS = 2_000
"""How long a client should wait before it comes back."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_VERSION = version("streamlens")


@app.page("/v1/live")
class LiveRows(View):
    """The changed rows of a tenant, or of all, until the client goes."""

    @declares(query=Asked, kinds=("text/event-stream",))
    async def get(self, request: web.Request, **_: Any) -> web.StreamResponse:
        tenant_id = read(Asked, request).tenant_id
        since = request.headers.get("Last-Event-ID", "")
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type, response.charset = "text/event-stream", "utf-8"
        if request.method == "HEAD":
            return response
        async with current().live.listen(tenant_id, since) as listener:
            try:
                await response.prepare(request)
                await _Stream(request, response, listener).run()
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()  # nor would it take the end of the answer
            except (ConnectionError, Problem):
                pass  # it has gone, or may not ask any more; the answer has begun, so it just ends
        return response


class _Stream:
    def __init__(self, request: web.Request, response: web.StreamResponse, listener: Listener) -> None:
        self._request = request
        self._response = response
        self._listener = listener
        self._now = asyncio.get_running_loop().time
        self._beat_at = 0.0

    async def run(self) -> None:
        """Tell what happens, until the client goes or the process stops. Raises `ConnectionError`, `TimeoutError` for
        a client that takes nothing, and `Problem` when its key was revoked."""
        request, listener, now = self._request, self._listener, self._now
        need = need_of("GET", "/v1/live")
        hello = orjson.dumps({"tenant_id": listener.tenant_id, "version": _VERSION})
        # Who has come back has no new position before it has got what it missed.
        start = "" if listener.since else listener.start
        await self._write(b"retry: %d\n" % RETRY_MS + _lines(Event("hello", hello, start)))
        async for missed in listener.missed():
            await self._write(_lines(missed))
        looked_at = now()
        while not listener.ended:
            event = await listener.take(LOOK_S)
            if now() >= looked_at + LOOK_S:
                looked_at = now()
                admit(request, need)
                if request.transport is None or request.transport.is_closing():
                    return
            if event is not None:
                await self._write(_lines(event))
            elif now() >= self._beat_at:
                await self._write(b": \n" + _lines(Event("", position=listener.position)))

    async def _write(self, text: bytes) -> None:
        async with asyncio.timeout(SLOW_S):
            await self._response.write(text)
        self._beat_at = self._now() + BEAT_S


def _lines(event: Event) -> bytes:
    """An event as the stream has it; without a name only its position, which clients keep and tell nobody."""
    position = b"id: %b\n" % event.position.encode() if event.position else b""
    named = b"event: %b\ndata: %b\n" % (event.name.encode(), event.data) if event.name else b""
    return named + position + b"\n"
