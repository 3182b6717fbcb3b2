"""Deletes rows that have grown old, a small batch at a time. The rows of the ledger stay.

Every worker runs it; in a batch's transaction only one of them deletes. Minutes of calls and facets go once their hour
is there. What is deleted and amended later, within a longer allowed lateness, comes back whole and is deleted again.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import asyncpg
import structlog

from streamlens.errors import Unavailable
from streamlens.postgres.connection import reader, transaction
from streamlens.postgres.database import Database
from streamlens.postgres.merging import hour_of
from streamlens.postgres.rows import EPOCH, time_of
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


# From where on minutes stay: a whole hour, and none that is not there as an hour.
_THIN = """
    update llm_history set minutes_from = greatest(minutes_from, least(hours_until, $1)) returning minutes_from"""


class Retention:
    """What stays for how many days; 0 keeps it for ever."""

    def __init__(self, database: Database, settings: Settings, clock_us: Callable[[], int]) -> None:
        self._database = database
        self._clock_us = clock_us
        self._settings = settings

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
        days = self._settings
        rows, recent = self._before(days.retention_days), self._before(days.recent_days)
        async with reader(self._database.pool) as connection:
            minutes: datetime = await connection.fetchval(_THIN, hour_of(rows))
        # Hours go whole days, so that no day is told in part, and never before their minutes.
        hours = min(self._before(days.hourly_retention_days), minutes)
        hours -= (hours - EPOCH) % timedelta(days=1)
        gone = 0
        for table, column, which, before in (
            ("llm_metrics", "window_start", "true", minutes),
            ("llm_facets", "window_start", "true", minutes),
            ("llm_metrics_hourly", "window_start", "true", hours),
            ("llm_facets_hourly", "window_start", "true", hours),
            ("llm_evaluations", "window_start", "true", rows),
            ("llm_tallies", "window_start", "true", rows),
            ("app_logs", "at", "true", recent),
            ("llm_visits", "first_at", "kind = 'session'", rows),
            ("llm_visits", "first_at", "kind = 'user'", self._before(days.user_retention_days)),
            ("llm_experiments", "window_start", "true", self._before(EXPERIMENT_DAYS)),
            ("llm_calls", "at", "true", recent),
        ):
            gone += await self._delete_all(table, column, which, before)
        return gone

    def _before(self, days: float) -> datetime:
        """What is older goes."""
        return time_of(self._clock_us()) - timedelta(days=days) if days else EPOCH

    async def _delete_all(self, table: str, column: str, which: str, before: datetime) -> int:
        gone, deleted = 0, BATCH
        while deleted == BATCH:
            deleted = await self._delete(table, column, which, before)
            gone += deleted
            await asyncio.sleep(_PAUSE_S)
        return gone

    async def _delete(self, table: str, column: str, which: str, before: datetime) -> int:
        """One batch, the oldest rows first; 0 while another worker deletes."""
        async with reader(self._database.pool) as connection, transaction(connection):
            if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", _LOCK):
                return 0
            done: str = await connection.execute(
                f"""delete from {table} where ctid = any(array(
                    select ctid from {table} where {which} and {column} < $1 order by {column} limit {BATCH}))""",
                before,
            )
        return int(done.split()[1])
