"""A reader that polls Postgres all the time, and must never see a count or a version go back."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import asyncpg

from streamlens.errors import Unavailable
from streamlens.postgres.connection import connect, unavailable

_ROWS = {
    "llm_metrics": ("tenant_id, route, model, window_start", "requests, errors, completion_tokens, revision"),
    "llm_facets": ("tenant_id, facet, value, window_start", "requests, errors, completion_tokens, revision"),
    "llm_evaluations": ("tenant_id, route, model, name, window_start", "evaluations, scored, revision"),
    "llm_tallies": ("tenant_id, kind, name, detail, window_start", "count"),
    "llm_experiments": ("tenant_id, experiment, variant, window_start", "calls"),
    "llm_calls": ("id", "0"),
}
"""By table: the key of its rows, and what never goes back besides their version."""
_LEDGER = """
    select tenant_id, minute, version, received, aggregated, pending, orphaned, duplicate, late, rejected
    from llm_ledger"""
_EVERY_S = 0.3


class Reader:
    """`faults` are the contradictions seen. A half that waits may move to another row, so `received` of a row can fall;
    what is settled (aggregated, duplicate, late, rejected) can't, nor be more than was sent."""

    def __init__(self, sent: Callable[[], int]) -> None:
        """`sent`: how many records the topics hold at most."""
        self.faults: list[str] = []
        self.polls = 0
        self.received = 0
        self._sent = sent
        self._seen: dict[tuple[object, ...], tuple[tuple[int, ...], tuple[int, ...]]] = {}

    async def run(self, dsn: str) -> None:
        """Poll for ever; while Postgres is away, try again."""
        while True:
            with suppress(Unavailable):
                connection = await connect(dsn, statement_timeout_s=10)
                try:
                    with unavailable():
                        while True:
                            began = time.monotonic()
                            await self.poll(connection)
                            await asyncio.sleep(max(_EVERY_S, 4 * (time.monotonic() - began)))
                finally:
                    connection.terminate()
            await asyncio.sleep(_EVERY_S)

    async def poll(self, connection: asyncpg.Connection) -> None:
        """Look once, at one snapshot."""
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            ledger = await connection.fetch(_LEDGER)
            rows = {
                table: await connection.fetch(f"select version, {key}, {counts} from {table}")
                for table, (key, counts) in _ROWS.items()
            }
        sent, settled = self._sent(), 0
        for table, (key, _) in _ROWS.items():
            names = len(key.split(","))
            for version, *row in map(tuple, rows[table]):
                self._check((table, *row[:names]), tuple(version), tuple(row[names:]))
        for row in ledger:
            received, aggregated, pending, orphaned, *ended = tuple(row)[3:]
            settled += aggregated + sum(ended)
            self._check(tuple(row)[:2], tuple(row["version"]), (aggregated, *ended))
            if received != aggregated + pending + orphaned + sum(ended) or min(tuple(row)[3:]) < 0:
                self.faults.append(f"does not add up: {dict(row)}")
        if settled > sent:
            self.faults.append(f"{settled} events are settled, {sent} were sent")
        self.received = sum(row["received"] for row in ledger)
        self.polls += 1

    def _check(self, key: tuple[object, ...], version: tuple[int, ...], counts: tuple[int, ...]) -> None:
        before_version, before = self._seen.get(key, ((-1, 0), (0,) * len(counts)))
        if version < before_version or any(now < then for now, then in zip(counts, before, strict=True)):
            self.faults.append(f"{key} went from {before_version} {before} to {version} {counts}")
        if version == before_version and counts != before:
            self.faults.append(f"{key} has other counts under one version {version}: {before}, then {counts}")
        self._seen[key] = (version, counts)
