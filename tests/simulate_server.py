"""A small server with the answers of POST /v1/llm/events: fails as told, then accepts and records. For the tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Event = dict[str, Any]


class EventServer:
    """`plan` holds what to do with the next bodies, one entry each; afterwards every body is accepted.

    Entries: a status to answer, (status, Retry-After), "close" (read, then drop the connection), or "store and close"
    (the events are durable, the answer is lost).
    """

    def __init__(
        self, *plan: int | tuple[int, str] | str, refuse: Callable[[Event], bool] = lambda event: False
    ) -> None:
        self.plan = list(plan)
        self.refuse = refuse
        self.bodies: list[list[Event]] = []
        """Every body that arrived, whatever the answer."""
        self.stored: dict[tuple[str, str], Event] = {}
        """Accepted events by (request_id, type): a repeated one is there once."""
        self.duplicates = 0
        self.url = ""
        self.tenants: list[str] = ["acme"]
        """Who has calls already, by GET /v1/tenants."""
        self.asked = asyncio.Event()
        """Set with the first body."""

    @asynccontextmanager
    async def running(self, port: int | None = None) -> AsyncIterator["EventServer"]:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/llm/events", self._events)
        app.router.add_get("/v1/tenants", self._tenants)
        async with TestServer(app, port=port) as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield self

    async def _tenants(self, request: web.Request) -> web.Response:
        return web.json_response({"tenants": [{"tenant_id": name} for name in self.tenants]})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        events = [json.loads(line) for line in (await request.read()).splitlines()]
        self.bodies.append(events)
        self.asked.set()
        step = self.plan.pop(0) if self.plan else "accept"
        if step in ("close", "store and close"):
            if step == "store and close":
                self._store(events)
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(step, tuple):
            return web.Response(status=step[0], headers={"Retry-After": step[1]})
        if isinstance(step, int):
            return web.json_response({"title": "no", "detail": "not today"}, status=step)
        errors = self._store(events)
        answer = {"accepted": len(events) - len(errors), "rejected": len(errors), "errors": errors[:100]}
        return web.json_response(answer, status=202 if answer["accepted"] else 400)

    def _store(self, events: list[Event]) -> list[dict[str, Any]]:
        errors: list[dict[str, Any]] = []
        for index, event in enumerate(events):
            if self.refuse(event):
                errors.append({"index": index, "field": "route", "detail": "refused"})
                continue
            key = event["request_id"], event["type"]
            self.duplicates += key in self.stored
            self.stored[key] = event
        return errors
