"""Connections to Postgres, and which of their errors a retry can heal."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from streamlens.errors import BadSetting, Unavailable, is_closed

CONNECT_S = 5.0
READ_S = 5.0
"""The server ends a query that takes longer; a server that does not is given up a second later."""
READERS = 4
_QUESTIONS = {"plan_cache_mode": "force_custom_plan", "max_parallel_workers_per_gather": "0"}
"""The one plan for all tenants and spans that PostgreSQL makes of a query which it sees again expects too many rows,
and reads whole tables: an hour of a day's rows took up to eight times as long. Its parallel workers merge what they
have merged, which takes longer than merging the rows where there are many windows; and the cores are for counting."""

_MISCONFIGURED = (
    asyncpg.InvalidAuthorizationSpecificationError,  # a wrong password too
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)
_RETRYABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # it stops, starts, or ended a statement that took too long
    asyncpg.InsufficientResourcesError,  # no disk, memory or connection left
    asyncpg.TransactionRollbackError,  # deadlocks
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a primary that became a standby
    asyncpg.PostgresSystemError,  # an I/O error of its own
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,  # the connection was closed under us
)


@contextmanager
def unavailable() -> Iterator[None]:
    """Raise what a retry can heal as `Unavailable`, a DSN that can't work as `BadSetting`, all else as it is."""
    try:
        yield
    except _MISCONFIGURED as error:
        raise BadSetting(f"POSTGRES_DSN: {error}") from error
    except _RETRYABLE as error:
        raise Unavailable(f"Postgres: {str(error) or type(error).__name__}") from error
    except RuntimeError as error:
        if not is_closed(error):
            raise
        raise Unavailable("Postgres: the connection was closed") from error


async def connect(dsn: str, statement_timeout_s: float) -> asyncpg.Connection:
    """A connection whose statements the server ends after `statement_timeout_s`. Raises as `unavailable` does."""
    with unavailable():
        return await asyncpg.connect(dsn, timeout=CONNECT_S, server_settings=_session(statement_timeout_s))


async def open_pool(dsn: str) -> asyncpg.Pool:
    """A pool for queries. It connects when it is first used: what is down now may be up later."""
    with unavailable():
        return await asyncpg.create_pool(
            dsn, min_size=0, max_size=READERS, timeout=CONNECT_S, server_settings=_session(READ_S) | _QUESTIONS
        )


@asynccontextmanager
async def reader(pool: asyncpg.Pool, deadline_s: float = READ_S + 1) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the pool for a query. Raises as `unavailable` does, when the deadline passes too."""
    with unavailable():
        async with asyncio.timeout(deadline_s):
            connection = await pool.acquire()
            try:
                yield connection
            except BaseException:
                connection.terminate()  # asyncpg would first wait for a silent server to confirm that it cancelled
                raise
            finally:
                await pool.release(connection)


@asynccontextmanager
async def transaction(connection: asyncpg.Connection, **options: Any) -> AsyncIterator[None]:
    """A transaction, with asyncpg's options. When it fails whoever has the connection closes it, as `reader` does,
    unless we refused something.

    asyncpg's own block would roll back always, and wait for that until the server confirms that it ended what it was
    at: for ever when the server is silent, or had ended a COPY by itself.
    """
    block = connection.transaction(**options)
    await block.start()
    try:
        yield
    except BadSetting:
        await block.rollback()
        raise
    await block.commit()


def _session(statement_timeout_s: float) -> dict[str, str]:
    """The server settings of a session of ours."""
    return {
        "application_name": "streamlens",
        "timezone": "UTC",
        "statement_timeout": str(int(statement_timeout_s * 1000)),
        # The transaction of a client that vanished must not hold its locks until TCP notices, hours later.
        "idle_in_transaction_session_timeout": str(int(statement_timeout_s * 1000)),
        # What is asked for was mostly written lately, and is in memory: then a tenant's index beats the order on disk.
        "random_page_cost": "1.1",
    }
