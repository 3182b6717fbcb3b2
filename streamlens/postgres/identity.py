"""Ties a database to the log whose events its rows count, so that two installations never mix their rows."""

from streamlens.errors import BadSetting
from streamlens.postgres.connection import connect, unavailable

_CLAIM = "insert into streamlens_meta (key, value) values ('log_id', $1) on conflict do nothing"


async def claim(dsn: str, log_id: str) -> None:
    """Make the migrated database belong to `log_id`. Raises `BadSetting` when it belongs to another log."""
    connection = await connect(dsn, statement_timeout_s=10)
    try:
        with unavailable():
            await connection.execute(_CLAIM, log_id)
            owner = await connection.fetchval("select value from streamlens_meta where key = 'log_id'")
    finally:
        connection.terminate()
    if owner != log_id:
        raise BadSetting(
            f"the rows in this database come from the log {owner}, not from {log_id}: "
            "use another POSTGRES_DSN or data directory, or the log that belongs to it"
        )
