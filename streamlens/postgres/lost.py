"""What the log deleted before it was counted, written down beside the ledger that therefore lacks it."""

from collections.abc import Mapping, Sequence

import asyncpg

from streamlens.log import TP
from streamlens.postgres.connection import connect, unavailable

_RECORD = """insert into streamlens_meta (key, value) values ($1, $2)
    on conflict (key) do update set value = excluded.value"""
_COUNT = """select coalesce(sum(value::bigint), 0)::bigint from streamlens_meta
    where key like 'lost/%' and split_part(key, '/', 2) = any($1)"""


async def record_lost(dsn: str, lost: Mapping[TP, range]) -> None:
    """Write down the lost offsets of each partition; the same again changes nothing. Raises `Unavailable`."""
    rows = [(f"lost/{tp.topic}/{tp.partition}/{offsets.start}", str(len(offsets))) for tp, offsets in lost.items()]
    connection = await connect(dsn, statement_timeout_s=10)
    try:
        with unavailable():
            await connection.executemany(_RECORD, rows)
    finally:
        connection.terminate()


async def count_lost(connection: asyncpg.Connection, topics: Sequence[str]) -> int:
    """How many records of these topics were lost."""
    return int(await connection.fetchval(_COUNT, topics))
