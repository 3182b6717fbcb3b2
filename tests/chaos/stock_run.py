"""A run of the stock Faust job under the suite's traffic and faults, against the oracle's rows."""

import asyncio
import time
from collections.abc import Iterator, Sequence

import asyncpg

import families_oracle
from chaos.cluster import GROUP, PARTITIONS, SOURCES, Cluster
from chaos.faults import Faults
from chaos.generator import Generator
from chaos.journal import Journal
from chaos.kafka import KafkaCluster
from chaos.run import Run, _now_us
from chaos.stock import FIELDS, SCHEMA
from streamlens.simulate.oracle import KEY, MINUTE_US, Row, compare

SETTLED_S = 30.0
"""Rows that have not changed for so long, with every event read, are the job's answer."""
_PATIENCE_S = 90.0


class StockRun(Run):
    """As a `Run`, for rows alone: this job keeps no ledger."""

    async def wrong(self) -> list[str]:
        """Run to the end: the differences, [] when every row is right. Leaves nothing behind."""
        cluster = self._cluster
        self._faults = Faults(self._seed, cluster, self._kinds)
        path = self._directory / "journal"
        generator = Generator(self._seed, self._rate, PARTITIONS, path, _now_us(), plain=True)
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
        """Wait for the right rows; for others until they rest with every event read, or stand still for too long."""
        expected = list(_expected(generator.journal))
        rows: Sequence[Row] = []
        unread, changed = 0, time.monotonic()
        deadline = changed + _PATIENCE_S
        while (now := time.monotonic()) < deadline:
            if (seen := await _rows(self._cluster)) != rows:
                rows, changed = seen, now
            if not (found := compare(expected, rows)):
                return []
            if unread := await self._unread():
                changed = now
            elif now - changed > SETTLED_S:
                break
            await asyncio.sleep(0.5)
        more = sum(row["calls"] for row in rows) - sum(row["calls"] for row in expected)
        total = f"{abs(more)} calls too {'many' if more > 0 else 'few'} of {sum(row['calls'] for row in expected)}"
        return [total + (f", {unread} events not acknowledged" if unread else ""), *found]

    async def _unread(self) -> int:
        """Events that the job has not acknowledged: it stands still, or is under way."""
        assert isinstance(self._cluster, KafkaCluster)
        log = self._cluster.log
        offsets, committed = await log.offsets(SOURCES), await log.committed(GROUP)
        return sum(end - committed.get(tp, start) for tp, (start, end) in offsets.items())


def _expected(journal: Journal) -> Iterator[Row]:
    for _, sent in journal.minutes():
        for (*names, minute), row in families_oracle.expected(sent, kept=0)["llm_metrics"].items():
            yield dict(zip(KEY, (*names, minute * MINUTE_US), strict=True)) | {name: row[name] for name in FIELDS}


async def _execute(cluster: Cluster, statement: str) -> None:
    connection = await asyncpg.connect(cluster.dsn)
    await connection.execute(statement)
    await connection.close()


async def _rows(cluster: Cluster) -> list[Row]:
    connection = await asyncpg.connect(cluster.dsn)
    rows = [dict(row) for row in await connection.fetch("select * from stock_rows")]
    await connection.close()
    return rows
