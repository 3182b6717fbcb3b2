"""The same counting as a job of stock Faust: what the engine is measured against.

As one would write it by the manual: the join's halves and the rows in tables on RocksDB, a topic by series in between,
a call sent before it is marked as joined, rows to Postgres as they are, before the event is acknowledged. Compared are
calls, errors and tokens; there are no latencies and no cost.
"""

import asyncio
import os
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import faust
import msgspec

from streamlens.simulate.oracle import MINUTE_US
from streamlens.topics import INPUTS

GUARANTEES = ("at_least_once", "exactly_once")
FIELDS = (
    "calls",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
SCHEMA = f"""create table if not exists stock_rows (
    tenant_id text, route text, model text, window_start_us bigint, {", ".join(f"{name} bigint" for name in FIELDS)},
    primary key (tenant_id, route, model, window_start_us))"""
_COLUMNS = f"tenant_id, route, model, window_start_us, {', '.join(FIELDS)}"
_UPSERT = f"""insert into stock_rows ({_COLUMNS}) values ({", ".join(f"${n + 1}" for n in range(4 + len(FIELDS)))})
    on conflict (tenant_id, route, model, window_start_us)
    do update set {", ".join(f"{name} = excluded.{name}" for name in FIELDS)}"""
_LATE_S = 3600.0
_FUTURE_S = 60.0
_JOINED = "joined"
_WRITE_S = 5.0
_RETRY_S = 0.2


def run(guarantee: str) -> None:
    """Be a worker with the settings of StreamLens' own, until SIGTERM. `guarantee`: one of `GUARANTEES`."""
    settings = {name: os.environ[name] for name in ("KAFKA_BROKERS", "POSTGRES_DSN", "CONSUMER_GROUP")}
    session_s = int(os.environ["STREAMLENS_KAFKA_SESSION_S"])
    partitions = int(os.environ["STREAMLENS_PARTITIONS"])
    data_dir = Path(sys.argv[sys.argv.index("--data-dir") + 1]) / "state"
    data_dir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        settings["CONSUMER_GROUP"],
        broker=[f"kafka://{broker}" for broker in settings["KAFKA_BROKERS"].split(",")],
        store="rocksdb://",
        processing_guarantee=guarantee,
        topic_partitions=partitions,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 5,
        broker_request_timeout=30,
        datadir=str(data_dir),
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    joined = app.topic("joined", key_type=str, partitions=partitions, internal=True)
    job = Job(app.Table("halves", key_type=str, partitions=partitions), joined)
    for topic, kind in INPUTS.items():
        source = app.topic(topic, key_serializer="raw", value_serializer="raw", value_type=bytes)
        app.agent(source, name=kind)(partial(job.join, kind))
    counting = Counting(app.Table("counts", key_type=str, partitions=partitions), settings["POSTGRES_DSN"])
    app.agent(joined, name="count")(counting.count)
    faust.Worker(app, loglevel="INFO").execute_from_commandline()


class Event(msgspec.Struct):
    """A request, a response, or both in one."""

    request_id: str
    timestamp: datetime
    tenant_id: str = ""
    route: str = ""
    model: str = ""
    error: str | None = None
    error_type: str | None = None
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    cached_tokens: int | None = 0
    cache_write_tokens: int | None = 0
    reasoning_tokens: int | None = 0


_decode = msgspec.json.Decoder(Event).decode


class Job:
    """Joins requests with responses. Ids joined long ago could expire; a run is too short for that to matter."""

    def __init__(self, halves: Any, joined: Any) -> None:
        self._halves = halves
        self._joined = joined
        self._on_their_way: set[str] = set()

    async def join(self, kind: str, stream: Any) -> None:
        """The agent of one input topic."""
        async for raw in stream:
            try:
                event = _decode(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            if -_FUTURE_S < time.time() - event.timestamp.timestamp() < _LATE_S:
                await self._take(kind, event, raw)

    async def _take(self, kind: str, event: Event, raw: bytes) -> None:
        request_id = event.request_id
        waiting = self._halves.get(request_id)
        if waiting == _JOINED or request_id in self._on_their_way:
            return
        if kind == "call":
            await self._emit(event, event)
        elif waiting is None:
            self._halves[request_id] = [kind, raw.decode()]
        elif waiting[0] != kind:
            other = _decode(waiting[1].encode())
            await self._emit(*((event, other) if kind == "request" else (other, event)))

    async def _emit(self, request: Event, response: Event) -> None:
        """Send a call, wait until Kafka has it, and only then forget its halves."""
        self._on_their_way.add(request.request_id)
        minute_us = int(request.timestamp.timestamp()) // 60 * MINUTE_US
        key = "\t".join((request.tenant_id, request.route, request.model, str(minute_us)))
        failed = response.error is not None or response.error_type is not None
        sums = [1, int(failed), request.prompt_tokens, response.completion_tokens]
        sums += [response.cached_tokens, response.cache_write_tokens, response.reasoning_tokens]
        await (await self._joined.send(key=key, value=[number or 0 for number in sums]))
        self._halves[request.request_id] = _JOINED
        self._on_their_way.remove(request.request_id)


class Counting:
    """Sums calls by series and minute, and puts each row to Postgres before its event is acknowledged."""

    def __init__(self, counts: Any, dsn: str) -> None:
        self._counts = counts
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None

    async def count(self, stream: Any) -> None:
        """The agent of the topic of calls."""
        async for key, sums in stream.items():
            before = self._counts.get(key) or [0] * len(FIELDS)
            self._counts[key] = row = [have + more for have, more in zip(before, sums, strict=True)]
            await self._put(key, row)

    async def _put(self, key: str, row: list[int]) -> None:
        """Upsert until Postgres has it."""
        tenant_id, route, model, start_us = key.split("\t")
        while True:
            try:
                async with asyncio.timeout(_WRITE_S):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await asyncpg.connect(self._dsn)
                    await self._connection.execute(_UPSERT, tenant_id, route, model, int(start_us), *row)
                return
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                if self._connection is not None:
                    self._connection.terminate()
                self._connection = None
                await asyncio.sleep(_RETRY_S)
