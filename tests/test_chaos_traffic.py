"""The chaos suite's traffic through both stages with nothing broken: its oracle agrees, and sees whatever is wrong."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos import books
from chaos.cluster import PARTITIONS
from chaos.generator import Generator
from chaos.rows import row_differences
from families_held import held
from pipeline import SECOND, START, Pipeline
from streamlens.log import TP, Record
from streamlens.postgres.store import PostgresStore
from streamlens.topics import INPUTS, SOURCES

SECONDS = 20
ORIGIN = START - START % (60 * SECOND) + 50 * SECOND
"""Ten seconds later a minute begins."""


class Trial:
    """The pipeline with the suite's traffic in it; `records` are all that was sent, as a consumer would read them."""

    def __init__(self, path: Path, store: PostgresStore) -> None:
        self.generator = Generator(3, 400.0, PARTITIONS, path / "journal", ORIGIN)
        self.pipeline = Pipeline(path / "pipeline", partitions=PARTITIONS)
        self.pipeline.rows = store  # type: ignore[assignment]
        self.records: list[tuple[str, bytes, bytes]] = []

    async def run(self) -> "Trial":
        """From the first to the last record, with a kill on the way."""
        await self.pipeline.open()
        self.pipeline.clock.us = ORIGIN
        await self._append(self.generator.first(ORIGIN))
        for second in range(0, SECONDS, 5):
            self.pipeline.clock.us = ORIGIN + second * SECOND
            await self._append(self.generator.due(self.pipeline.clock.us))
        await self.pipeline.close()
        await self.pipeline.open()
        self.pipeline.clock.us += 200 * SECOND
        await self._append(self.generator.rest())
        await self.pipeline.close()
        return self

    async def _append(self, batches: Mapping[TP, Sequence[Record]]) -> None:
        await self.pipeline.log.append(batches)
        for tp, records in batches.items():
            self.records += [(tp.topic, record.key or b"", record.value) for record in records]
        await self.pipeline.settle()

    async def read(self) -> AsyncIterator[tuple[str, bytes, bytes]]:
        for record in self.records:
            yield record


async def test_the_oracle_agrees_where_nothing_breaks(tmp_path: Path, store: PostgresStore, dsn: str) -> None:
    trial = await Trial(tmp_path, store).run()
    assert row_differences(await held(dsn), trial.generator.journal) == []
    assert await books.told(dsn) == await books.read(trial.read())
    by_topic = Counter(topic for topic, _, _ in trial.records)
    assert by_topic.keys() == SOURCES.keys()
    assert 0.7 < sum(by_topic[topic] for topic in INPUTS) / by_topic.total() < 0.8


async def test_it_sees_whatever_is_wrong(tmp_path: Path, store: PostgresStore, dsn: str) -> None:
    trial = await Trial(tmp_path, store).run()
    tables = await held(dsn)
    wrong = []
    for table, rows in tables.items():
        keys = list(rows)
        fields = len(rows[keys[0]])
        for n in range(fields):
            rows[keys[n]] = spoiled(rows[keys[n]], n)
        rows["nobody", *keys[fields][1:]] = rows.pop(keys[fields])
        wrong += [f"{table} {key}" for key in keys[:fields]]
        wrong += [f"{table} {('nobody', *keys[fields][1:])}", f"{table} {keys[fields]}: missing"]
    wrong.remove(next(name for name in wrong if name.startswith("app_logs") and name.endswith("missing")))
    found = row_differences(tables, trial.generator.journal)
    assert [name for name in wrong if not any(each.startswith(name) for each in found)] == []
    assert any(each.startswith("app_logs") and "lines are kept of" in each for each in found)


def spoiled(row: Any, n: int) -> Any:
    """A row with its n-th field changed."""
    if isinstance(row, dict):
        return row | {list(row)[n]: -1}
    return (*row[:n], -1, *row[n + 1 :])
