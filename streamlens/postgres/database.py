"""The Postgres of this process: the embedded one or the one that `POSTGRES_DSN` names, migrated and claimed."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
import structlog

from streamlens.errors import StreamLensError, Unavailable
from streamlens.postgres.embedded import EmbeddedPostgres
from streamlens.postgres.identity import claim
from streamlens.postgres.migrate import migrate
from streamlens.postgres.store import PostgresStore
from streamlens.postgres.tables import Row
from streamlens.settings import Settings

logger = structlog.get_logger()

_RETRY_S = 2.0


class Database:
    """Started once. A server that is away is waited for in the background: the pipeline goes on without it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded: EmbeddedPostgres | None = None
        self._store: PostgresStore | None = None
        self._prepared = False
        self._preparing: asyncio.Task[None] | None = None
        self.dsn = settings.postgres_dsn
        self.trouble = "starting"
        """Why rows can't be written now; "" when they can."""

    async def start(self, log_id: str) -> None:
        """Returns when the database is ready, or known to be away. Raises `BadSetting` for one that is not ours."""
        if not self.dsn:
            self._embedded = EmbeddedPostgres(self._settings.data_dir / "postgres")
            self.dsn = await asyncio.to_thread(self._embedded.start)
        self._store = await PostgresStore.open(self.dsn)
        try:
            await self._prepare(log_id)
        except Unavailable as error:
            self.trouble = str(error)
            logger.warning("postgres is away, going on without it", reason=self.trouble)
            self._preparing = asyncio.create_task(self._prepare_later(log_id))

    async def _prepare(self, log_id: str) -> None:
        await migrate(self.dsn)
        await claim(self.dsn, log_id)
        self._prepared, self.trouble = True, ""

    async def _prepare_later(self, log_id: str) -> None:
        while not self._prepared:
            await asyncio.sleep(_RETRY_S)
            with suppress(Unavailable):
                await self._prepare(log_id)

    @property
    def pool(self) -> asyncpg.Pool:
        """For `streamlens.postgres.queries`."""
        assert self._store is not None, "start comes first"
        return self._store.pool

    async def write(self, rows: Sequence[Row]) -> None:
        """Put rows, guarded by version. Raises `Unavailable` to be called again; an embedded server is revived."""
        if self._preparing is not None and self._preparing.done():
            self._preparing.result()
        if not self._prepared or self._store is None:
            raise Unavailable(self.trouble)
        try:
            await self._store.write(rows)
            self.trouble = ""
        except Unavailable as error:
            self.trouble = str(error)
            if self._embedded is not None:
                with suppress(StreamLensError):
                    await asyncio.to_thread(self._embedded.start)
            raise

    async def stop(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        if self._store is not None:
            await self._store.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.stop)

    def kill(self) -> None:
        """At the end of a process that broke: stop the embedded server, at once."""
        if self._embedded is not None:
            with suppress(Exception):
                self._embedded.stop()
