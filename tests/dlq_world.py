"""Dead letters from end to end in one process: the pipeline, their index, and the views, with a clock moved by hand."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

import agents.join
from pipeline import SECOND, START, Pipeline
from streamlens.errors import BadEvent
from streamlens.events import decoder
from streamlens.letterindex import LetterIndex
from streamlens.letterreplay import FATES
from streamlens.log import TP
from streamlens.postgres.store import PostgresStore
from web_server import PARTITIONS, Site, serving


def call(request_id: str, at: float = 0, **fields: Any) -> bytes:
    event = {"request_id": request_id, "tenant_id": "acme", "route": "chat", "model": "gpt-4o-mini"}
    return orjson.dumps(event | {"timestamp": (START + round(at * SECOND)) // 1000, "latency_ms": 100} | fields)


EVENTS = {
    "malformed": b'{"tenant_id":"acme"',
    "invalid": call("i", latency_ms="fast", tenant_id="globex"),
    "future": call("f", at=3600),
    "late": call("l", at=-7200),
}
"""One for each reason."""


class World:
    """The pipeline, its index and the views over one log and one database."""

    def __init__(self, pipeline: Pipeline, site: Site, store: PostgresStore) -> None:
        self.pipeline = pipeline
        self.site = site
        self.pool = store.pool
        self.index = LetterIndex(pipeline.log, store.pool, lambda: range(PARTITIONS))

    async def settle(self) -> None:
        await self.pipeline.settle()
        await self.index.follow()

    async def get(self, path: str) -> Any:
        answer = await self.site.http.get(path)
        body = await answer.json()
        assert answer.status == 200, body
        return body

    async def letters(self, query: str = "") -> list[dict[str, Any]]:
        body = await self.get(f"/v1/dlq{query}")
        assert body["count"] == len(body["letters"])
        found: list[dict[str, Any]] = body["letters"]
        return found

    async def post(self, query: str = "") -> tuple[int, Any]:
        answer = await self.site.http.post(f"/v1/dlq/replay{query}")
        return answer.status, await answer.json()

    async def replay(self, query: str = "") -> dict[str, int]:
        """The fates that are not 0; a second later than what was before."""
        self.pipeline.clock.us += SECOND
        status, body = await self.post(query)
        assert status == 200, body
        assert sum(body[fate] for fate in FATES) == len(body["letters"])
        return {fate: body[fate] for fate in FATES if body[fate]}

    def outcomes(self) -> dict[str, int]:
        """The ledger's columns, over all tenants and minutes."""
        found: dict[str, int] = {}
        for counts in self.pipeline.ledger().values():
            for name, count in counts.items():
                found[name] = found.get(name, 0) + count
        return found

    def calls(self) -> int:
        return sum(self.pipeline.calls().values())

    def sent(self, topic: str) -> int:
        return sum(self.pipeline.log.end_offset(TP(topic, p)) for p in range(PARTITIONS))


@pytest.fixture
async def world(tmp_path: Path, store: PostgresStore) -> AsyncIterator[World]:
    pipeline = Pipeline(tmp_path, PARTITIONS)
    async with serving(tmp_path, pool=store.pool, clock_us=pipeline.clock) as site:
        pipeline.log = site.log
        await pipeline.open()
        yield World(pipeline, site, store)
        pipeline.join.close()
        pipeline.windows.close()


@pytest.fixture
def our_bug(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The worker takes no calls of the tenant acme, until `undo`."""

    def broken(kind: str) -> Callable[[bytes], Any]:
        def decode(raw: bytes) -> Any:
            if b'"acme"' in raw:
                raise BadEvent("tenant_id", "a bug of ours")
            return decoder(kind)(raw)

        return decode

    monkeypatch.setattr(agents.join, "decoder", broken)
    return monkeypatch
