"""A client of `/v1/live`, for the tests: events as a browser would dispatch them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from postgres_rows import metric
from streamlens.log import TP, Log
from streamlens.published import metric_record
from streamlens.topics import METRICS

WITHIN_S = 20.0


class Told(msgspec.Struct, frozen=True):
    event: str
    data: Any

    @property
    def names(self) -> list[str]:
        """The routes of the rows; `row` gives each test's rows different ones."""
        return [row["route"] for row in self.data["metrics"]]


class Stream:
    """`last_id` and `beats` are what a browser remembers, and the comments that it hides."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.last_id = ""
        self.beats = 0

    async def next(self) -> Told | None:
        """The next event; None at the end."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                name, data = "", ""
                while line := (await self._line()):
                    field, _, value = line.partition(": ")
                    name = value if field == "event" else name
                    data = value if field == "data" else data
                    self.last_id = value if field == "id" else self.last_id
                    self.beats += line.startswith(":")
                if line is None:
                    return None
                if name:
                    return Told(name, json.loads(data))

    async def until(self, name: str) -> Told:
        """The next event of that name."""
        while (told := await self.next()) is not None:
            if told.event == name:
                return told
        raise AssertionError(f"ended without {name}")

    async def rows(self, count: int) -> list[str]:
        """The routes of the next `count` rows."""
        found: list[str] = []
        while len(found) < count:
            told = await self.next()
            assert told is not None and told.event == "rows", told
            found += told.names
        return found

    async def _line(self) -> str | None:
        raw = await self.answer.content.readline()
        return raw.decode().rstrip("\n") if raw else None


@asynccontextmanager
async def listening(http: aiohttp.ClientSession, last_id: str = "", **query: str) -> AsyncIterator[Stream]:
    """A stream whose `hello` has come."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with http.get("/v1/live", params=query, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        stream = Stream(answer)
        hello = await stream.next()
        assert hello is not None and hello.event == "hello", hello
        yield stream


async def change(log: Log, *routes: str, tenant_id: str = "acme", partition: int = 0, topic: str = METRICS) -> None:
    """Append a row for each route, as stage two does."""
    records = [metric_record(metric(tenant_id=tenant_id, route=route)) for route in routes]
    await log.append({TP(topic, partition): records})
