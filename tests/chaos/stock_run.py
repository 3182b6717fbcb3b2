"""A run of the stock Faust job under the suite's traffic and faults, against the oracle's rows."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg

from chaos.cluster import GROUP, PARTITIONS, SOURCES, Cluster
from chaos.faults import Faults
from chaos.generator import Generator
from chaos.kafka import KafkaCluster
from chaos.run import Run, _now_us
from chaos.stock import FIELDS, SCHEMA
from streamlens.errors import Unavailable
from streamlens.simulate.oracle import KEY, Row, compare

SETTLED_S = 15.0
"""Rows that have not changed for so long, with every event read, are the job's answer."""
_PATIENCE_S = 75.0


class StockRun(Run):
    """As a `Run`, for rows alone: this job keeps no ledger."""

    async def wrong(self) -> list[str]:
        """Run to the end: the differences, [] when every row is right. Leaves nothing behind."""
        cluster = self._cluster
        self._faults = Faults(self._seed, cluster, self._kinds)
        generator = Generator(self._seed, self._rate, PARTITIONS, self._directory / "calls", _now_us())
        try:
            await cluster.start()
            await _execute(cluster, SCHEMA)
            await self._append(generator.first(_now_us()))
            if found := await self._differences(generator):
                return found
            await self._break(generator)
            return await self._differences(generator)
        finally:
            await cluster.remove(keep=False)

    def _is_wrong(self) -> bool:
        return False  # Only the end tells: nothing here says what must hold on the way.

    async def _differences(self, generator: Generator) -> list[str]:
        expected = [{name: row[name] for name in (*KEY, *FIELDS)} for row in generator.rows()]
        rows: Sequence[Row] = []
        changed = began = time.monotonic()
        while (now := time.monotonic()) - changed < SETTLED_S:
            seen = await _rows(self._cluster)
            if seen != rows:
                rows, changed = seen, now
            if not (found := compare(expected, rows)):
                return []
            if now - began > _PATIENCE_S:
                break
            await asyncio.sleep(0.5)
        more = sum(row["calls"] for row in rows) - sum(row["calls"] for row in expected)
        total = f"{abs(more)} calls too {'many' if more > 0 else 'few'} of {sum(row['calls'] for row in expected)}"
        return [f"{total}; {found[0]}", *found[1:], *await self._unread()]

    async def _unread(self) -> list[str]:
        """Whether events were left unread: then the job stands still."""
        assert isinstance(self._cluster, KafkaCluster)
        log = self._cluster.log
        try:
            offsets, committed = await log.offsets(SOURCES), await log.committed(GROUP)
        except Unavailable as error:
            return [str(error)]
        lag = sum(end - committed.get(tp, start) for tp, (start, end) in offsets.items())
        return [f"{lag} events were never acknowledged"] if lag else []


async def _execute(cluster: Cluster, statement: str) -> None:
    connection = await asyncpg.connect(cluster.dsn)
    await connection.execute(statement)
    await connection.close()


async def _rows(cluster: Cluster) -> list[Row]:
    connection = await asyncpg.connect(cluster.dsn)
    rows = [dict(row) for row in await connection.fetch("select * from stock_rows")]
    await connection.close()
    return rows
