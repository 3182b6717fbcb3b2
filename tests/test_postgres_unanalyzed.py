"""Questions in the first minute of a table, before PostgreSQL knows anything of what is in it."""

import hashlib
from datetime import date
from typing import Any

import asyncpg
import orjson
import pytest

from streamlens.postgres import visit_queries
from streamlens.postgres.migrate import migrate
from streamlens.postgres.rows import time_of

USERS = 8_000
TENANTS = 5
NOON = 1_795_003_200_000_000
VISITOR = hashlib.md5(b"1").hexdigest()
TODAY = date(2026, 11, 18)
ASKED = {
    "retention": (visit_queries._RETENTION, (TODAY, "tenant-0", 7, "route")),
    "retention of all": (visit_queries._RETENTION, (TODAY, None, 7, None)),
    "funnel": (visit_queries._FUNNEL, (["a", "b"], "user", "tenant-0", time_of(NOON), time_of(NOON + 3_600_000_000))),
    "sessions": (visit_queries._SESSIONS, ("tenant-0", None, None, None, None, None, 50)),
    "sessions of all": (visit_queries._SESSIONS, (None, None, None, None, None, None, 50)),
    "sessions of a user": (visit_queries._SESSIONS, (None, [VISITOR], None, None, None, None, 50)),
    "session": (visit_queries._SESSION, (VISITOR, "tenant-1")),
}


@pytest.fixture
async def fresh(empty_dsn: str) -> Any:
    await migrate(empty_dsn)
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("alter table llm_visits set (autovacuum_enabled = off)")
    await connection.execute(
        f"""
        insert into llm_visits (id, tenant_id, kind, visitor, route, first_at, first_model, minutes, user_hash, version)
        select decode(md5(concat_ws(' ', n, route, kind)), 'hex'), 'tenant-' || n % {TENANTS}, kind, md5(n::text),
            route, $1::timestamptz + (n * 7 + ascii(route) * 13) % 600 * interval '1 min', 'gpt-5', '{{720}}',
            md5(n::text), '{{1, 1}}'
        from generate_series(1, {USERS}) as n, unnest('{{a, b, c}}'::text[]) as route,
            unnest('{{user, session}}'::text[]) as kind""",
        time_of(NOON),
    )
    yield connection
    await connection.close()


@pytest.mark.parametrize("name", ASKED)
async def test_no_question_reads_a_table_once_for_each_of_its_visitors(fresh: asyncpg.Connection, name: str) -> None:
    query, values = ASKED[name]
    plan = orjson.loads(await fresh.fetchval("explain (analyze, buffers, timing off, format json) " + query, *values))
    blocks = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
    assert blocks < 10 * 6 * USERS, blocks  # a few for each row; for each pair of rows they were millions
