"""Deletes rows that have grown old, a small batch at a time. The rows of calls and of the ledger stay.

Every worker runs it; in a batch's transaction only one of them deletes. What is deleted and amended later, within a
longer allowed lateness, comes back whole and is deleted again.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import asyncpg
import structlog

from streamlens.errors import Unavailable
from streamlens.postgres.connection import reader
from streamlens.postgres.database import Database
from streamlens.postgres.rows import time_of
from streamlens.settings import Settings

logger = structlog.get_logger()

BATCH = 1_000
EVERY_S = 300.0
_PAUSE_S = 0.1
"""Between two batches, so that rows get in."""
EXPERIMENT_DAYS = 400.0
"""Experiments run for weeks and are looked at for long after, and a row is a minute of a variant, not of a series."""
_LOCK = int.from_bytes(b"retain", "big")
"""Of the advisory lock. Any number will do that no other program in the database uses."""


class Retention:
    """By table, time of a row and which of the rows: how many days they stay; 0 keeps them."""

    def __init__(self, database: Database, settings: Settings, clock_us: Callable[[], int]) -> None:
        self._database = database
        self._clock_us = clock_us
        self._days = {
            ("llm_facets", "window_start", "true"): settings.retention_days,
            ("llm_evaluations", "window_start", "true"): settings.retention_days,
            ("llm_tallies", "window_start", "true"): settings.retention_days,
            ("app_logs", "at", "true"): settings.recent_days,
            ("llm_visits", "first_at", "kind = 'session'"): settings.retention_days,
            ("llm_visits", "first_at", "kind = 'user'"): settings.user_retention_days,
            ("llm_experiments", "window_start", "true"): EXPERIMENT_DAYS,
            ("llm_calls", "at", "true"): settings.recent_days,
        }

    async def run(self) -> None:
        """Sweep now and then, for ever."""
        while True:
            if not self._database.trouble:
                try:
                    await self.sweep()
                except (Unavailable, asyncpg.PostgresError) as error:
                    logger.warning("old rows stay for now", reason=str(error))
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> int:
        """Delete what is too old; returns how many rows. Raises `Unavailable`."""
        now, gone = time_of(self._clock_us()), 0
        for (table, column, which), days in self._days.items():
            deleted = BATCH if days else 0
            while deleted == BATCH:
                deleted = await self._delete(table, column, which, now - timedelta(days=days))
                gone += deleted
                await asyncio.sleep(_PAUSE_S)
        return gone

    async def _delete(self, table: str, column: str, which: str, before: datetime) -> int:
        """One batch, the oldest rows first; 0 while another worker deletes."""
        async with reader(self._database.pool) as connection, connection.transaction():
            if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", _LOCK):
                return 0
            done: str = await connection.execute(
                f"""delete from {table} where ctid = any(array(
                    select ctid from {table} where {which} and {column} < $1 order by {column} limit {BATCH}))""",
                before,
            )
        return int(done.split()[1])
