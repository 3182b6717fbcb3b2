"""The write side of Postgres: guarded upserts of absolute rows, one transaction a call.

A row is replaced only by one of a higher version, so a call may be repeated, reordered or lost without harm.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import chain
from typing import Any

import asyncpg
import orjson

from streamlens.errors import BadSetting, Unavailable
from streamlens.postgres.connection import connect, open_pool, reader, transaction, unavailable
from streamlens.postgres.tables import TABLES, Row, Table

WRITE_S = 10.0
"""Longest time a write may take, its connection included, before it is given up and raises `Unavailable`."""
PING_S = 2.0
TURN_ROWS = 100
"""After so many rows, a few milliseconds' work, other tasks get a turn."""


class _Upsert:
    """The statements that put rows of one table: copied to a temporary table, then inserted or replaced from there."""

    def __init__(self, into: Table) -> None:
        table, key = into.name, into.key
        self.record = into.record
        self.columns = into.columns.split()
        self.incoming = f"incoming_{table}"
        names = ", ".join(self.columns)
        # Types follow the table. A temporary table is this connection's own and is emptied at each commit.
        self.create = (
            f"create temporary table {self.incoming} on commit delete rows as select {names} from {table} with no data"
        )
        # One order of locking for all writers (no deadlocks), and the highest version where a key comes twice.
        self.put = f"""
            insert into {table} ({names})
            select distinct on ({key}) {names} from {self.incoming} order by {key}, version desc
            on conflict ({key}) do update set
                {", ".join(f"{name} = excluded.{name}" for name in self.columns)}, updated_at = now()
            where excluded.version > {table}.version"""

    async def copy(self, connection: asyncpg.Connection, rows: Iterable[Row]) -> None:
        records = _in_turns(map(self.record, rows))
        await connection.copy_records_to_table(self.incoming, records=records, columns=self.columns)


_UPSERTS = {kind: _Upsert(table) for kind, table in TABLES.items()}


class PostgresStore:
    """One connection that writes and a small pool that reads. Connections that break are made anew by the next call."""

    def __init__(self, dsn: str, pool: asyncpg.Pool) -> None:
        self.pool = pool
        """For `streamlens.postgres.queries`; connects when it is first used."""
        self._dsn = dsn
        self._writer: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, dsn: str) -> "PostgresStore":
        """A store on a database that is migrated. Does not connect yet: what is down now may be up later."""
        return cls(dsn, await open_pool(dsn))

    async def close(self) -> None:
        """Close all connections, without waiting for what they do."""
        self._drop()
        self.pool.terminate()

    @property
    def connected(self) -> bool:
        """Whether the writing connection stands: the last write went well and nothing was seen to break since."""
        return self._writer is not None and not self._writer.is_closed()

    async def ping(self) -> None:
        """Prove that Postgres answers. Raises `Unavailable` within `PING_S`."""
        async with reader(self.pool, PING_S) as connection:
            await connection.execute("select 1")

    async def write(self, *given: Sequence[Row]) -> None:
        """Put rows of whatever tables, all or none; durable when it returns. Of one key the highest version counts.

        It gives way to other tasks in between: neither the rows nor their cells may change until it returns.
        Raises `Unavailable` within `WRITE_S` when Postgres is down, silent or in trouble: call again with these rows.
        """
        if not any(given):
            return
        with unavailable():
            async with asyncio.timeout(WRITE_S), self._turn:
                try:
                    await self._put(await self._connection(), chain(*given))
                except BaseException:
                    # Whatever it was (a cancelled call too), the connection may be in the middle of something.
                    self._drop()
                    raise

    async def _put(self, connection: asyncpg.Connection, given: Iterable[Row]) -> None:
        rows: dict[type[Row], list[Row]] = {}
        for row in given:
            rows.setdefault(type(row), []).append(row)
        upserts = {upsert: rows[kind] for kind, upsert in _UPSERTS.items() if kind in rows}
        async with transaction(connection):
            for upsert, of_kind in upserts.items():
                await upsert.copy(connection, of_kind)
            await _merge(connection, upserts)

    async def _connection(self) -> asyncpg.Connection:
        if self._writer is None or self._writer.is_closed():
            try:
                connection = await connect(self._dsn, WRITE_S)
            except BadSetting as error:  # it worked when we started: a password changed, a database is being restored
                raise Unavailable(str(error)) from error
            self._writer = connection
            codec = {"encoder": _jsonb, "decoder": bytes, "format": "binary"}
            await connection.set_type_codec("jsonb", schema="pg_catalog", **codec)
            for upsert in _UPSERTS.values():
                await connection.execute(upsert.create)
        return self._writer

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.terminate()
            self._writer = None


async def _merge(connection: asyncpg.Connection, copied: Iterable[_Upsert]) -> None:
    """Put what was copied, in one round trip."""
    await connection.execute(";".join(upsert.put for upsert in copied))


async def _in_turns(records: Iterable[tuple[Any, ...]]) -> AsyncIterator[tuple[Any, ...]]:
    """`records`, with a turn for other tasks every `TURN_ROWS`."""
    for number, record in enumerate(records):
        if number % TURN_ROWS == TURN_ROWS - 1:
            await asyncio.sleep(0)
        yield record


def _jsonb(value: object) -> bytes:
    return b"\x01" + orjson.dumps(value)  # the binary form of jsonb: its version, then the text
