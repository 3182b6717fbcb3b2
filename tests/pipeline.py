"""Both stages over a real local log, with a clock that the test advances and rows that it can look at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from agents.join import Join
from agents.windows import Windows, WindowsOptions
from streamlens.checkpoint.stage import Stage
from streamlens.checkpoint.store import RocksStore
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Record, TopicSpec
from streamlens.options import JoinOptions
from streamlens.outbox import Outbox
from streamlens.partitioner import partition_of
from streamlens.postgres.calls import CallRow
from streamlens.postgres.experiments import ExperimentRow
from streamlens.postgres.observed import EvaluationRow, KeptRow, TallyRow
from streamlens.postgres.rows import FacetRow, LedgerRow, MetricRow, SettledRow
from streamlens.postgres.tables import Row
from streamlens.postgres.visited import VisitRow
from streamlens.pricing import Prices
from streamlens.topics import DEAD_LETTERS, METRICS, PARTIALS, SOURCES
from streamlens.userhash import UserHash
from streamlens.watermark import Lines
from visits_oracle import DAY_US, SECRET

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_790_000_040 * SECOND
"""A full minute; the tests' times are seconds after it."""
LINES = Lines(window_us=MINUTE, join_timeout_us=300 * SECOND, out_of_order_us=30 * SECOND, lateness_us=3600 * SECOND)
TOPICS = {kind: topic for topic, kind in SOURCES.items()}
PRICES = Prices()


class Clock:
    """Wall time in microseconds, moved by hand."""

    def __init__(self) -> None:
        self.us = START

    def __call__(self) -> int:
        return self.us

    def at(self, seconds: float) -> None:
        self.us = START + round(seconds * SECOND)


class Rows:
    """What Postgres would hold: the highest version of each row. `error` makes it refuse.

    No row of calls may come that is new below what all partitions have said to be settled.
    """

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.metrics: dict[tuple[str, str, str, int], MetricRow] = {}
        self.ledger: dict[tuple[str, int], LedgerRow] = {}
        self.facets: dict[tuple[str, str, str, int], FacetRow] = {}
        self.evaluations: dict[tuple[str, str, str, str, int], EvaluationRow] = {}
        self.tallies: dict[tuple[str, str, str, str, int], TallyRow] = {}
        self.kept: dict[tuple[str, str, str], KeptRow] = {}
        self.experiments: dict[tuple[str, str, str, int], ExperimentRow] = {}
        self.recent: dict[bytes, CallRow] = {}
        self.visits: dict[tuple[str, str, str, str, int], VisitRow] = {}
        self.settled: dict[int, SettledRow] = {}
        self.error: Exception | None = None
        self.writes = 0

    async def write(self, rows: list[Row]) -> None:
        if self.error:
            raise self.error
        self.writes += 1
        settled_us = self.settled_us
        for row in rows:
            held, key = self._place(row)
            if key not in held or held[key].version < row.version:
                assert not isinstance(row, MetricRow) or row.window_start_us >= settled_us, (row, settled_us)
                held[key] = row

    @property
    def settled_us(self) -> int:
        """Up to where all partitions have settled."""
        return min(row.until_us for row in self.settled.values()) if len(self.settled) == self.partitions else 0

    def _place(self, row: Any) -> tuple[dict[Any, Any], Any]:
        """Where a row is held, and its key."""
        match row:
            case FacetRow():
                return self.facets, (row.tenant_id, row.route, row.model, row.window_start_us)
            case MetricRow():
                return self.metrics, (row.tenant_id, row.route, row.model, row.window_start_us)
            case LedgerRow():
                return self.ledger, (row.tenant_id, row.minute_us)
            case EvaluationRow():
                return self.evaluations, (row.tenant_id, row.route, row.model, row.name, row.window_start_us)
            case TallyRow():
                return self.tallies, (row.tenant_id, row.kind, row.name, row.detail, row.window_start_us)
            case KeptRow():
                return self.kept, (row.tenant_id, row.kind, row.record_id)
            case ExperimentRow():
                return self.experiments, (row.tenant_id, row.experiment, row.variant, row.window_start_us)
            case CallRow():
                return self.recent, row.key
            case VisitRow():
                day = row.visit.first_us // DAY_US
                return self.visits, (row.tenant_id, row.kind, row.visitor, row.route, day)
            case SettledRow():
                return self.settled, row.partition
        raise TypeError(row)


class Pipeline:
    """One process' pipeline. `open` and `close` may be called again and again on one directory."""

    def __init__(self, path: Path, partitions: int = 2, log: Any = None, **options: Any) -> None:
        self.path = path
        self.partitions = partitions
        self.clock = Clock()
        self.rows = Rows(partitions)
        self.log: Any = log
        self.fatal: list[BaseException] = []
        self.sought: list[tuple[TP, int]] = []
        self.mine = True
        self.options = {"user_hash": UserHash(SECRET, str)} | options
        """Of stage one, besides those that all tests have."""

    async def open(self) -> "Pipeline":
        if self.log is None:
            self.log = LocalLog.open(self.path / "log", sync=False)
        names = [*SOURCES, PARTIALS, METRICS, DEAD_LETTERS, "pending-changelog", "windows-changelog"]
        await self.log.create_topics([TopicSpec(name, self.partitions) for name in names])
        options = JoinOptions(self.partitions, LINES, 60 * SECOND, PRICES, self.clock, **self.options)
        windows = WindowsOptions(self.partitions, MINUTE)
        self.join = self._stage("pending", list(SOURCES), lambda p: Join(p, options))
        self.windows = self._stage("windows", [PARTIALS], lambda p: Windows(p, windows), rows=True)
        self.outbox = Outbox(self.windows, self.rows, self.clock)
        for stage in (self.join, self.windows):
            stage.connect(self.log, self)
            await stage.take_over(range(self.partitions))
        return self

    def seek_now(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))

    async def commit_hint(self, offsets: Mapping[TP, int]) -> None:
        await self.log.commit("tests", offsets)

    async def still_mine(self, offsets: Mapping[TP, int]) -> bool:
        return self.mine

    def _stage(self, name: str, topics: list[str], new_logic: Any, *, rows: bool = False) -> Stage:
        return Stage(
            name,
            topics,
            f"{name}-changelog",
            "tests",
            open_store=lambda p: RocksStore(self.path / name / str(p)),
            new_logic=new_logic,
            fatal=self.fatal.append,
            clock_us=self.clock,
            lagging_sink=rows,
        )

    async def close(self) -> None:
        """As a kill would: no last checkpoint."""
        self.join.close()
        self.windows.close()
        await self.log.stop()
        self.log = None

    async def send(self, kind: str, at: float, request_id: str = "r1", **fields: Any) -> None:
        """Append one event with a timestamp of `at` seconds; a field of None is left out."""
        event: dict[str, Any] = {"request_id": request_id, "timestamp": (START + round(at * SECOND)) // 1000}
        if kind != "response":
            event |= {"tenant_id": "acme"}
        if kind in ("request", "call", "evaluation"):
            event |= {"route": "chat", "model": "gpt-4o-mini"}
        if kind == "call":
            event |= {"latency_ms": 100}
        event = {name: value for name, value in (event | fields).items() if value is not None}
        await self.send_raw(kind, orjson.dumps(event), request_id)

    async def send_raw(self, kind: str, raw: bytes, request_id: str = "r1") -> None:
        key = request_id.encode()
        await self.log.append({TP(TOPICS[kind], partition_of(key, self.partitions)): [Record(key, raw)]})

    async def consume(self, stage: Stage) -> None:
        """Hand a stage all that is in its topics, one run after the other."""
        for tp, offset in stage.source_offsets().items():
            while offset < self.log.end_offset(tp):
                run = self.log.read_now(tp, offset)
                await stage.process(tp, run)
                offset = run.next

    async def settle(self) -> None:
        """Count all, checkpoint both stages, write the rows."""
        await self.consume(self.join)
        await self.join.tick()
        await self.consume(self.windows)
        await self.windows.tick()
        await self.outbox.drain()

    async def idle(self, at: float) -> None:
        """Let the wall clock pass until `at` with no traffic, so that the watermark follows it."""
        self.clock.at(at - 11)
        await self.settle()
        self.clock.at(at)
        await self.settle()

    def ledger(self) -> dict[tuple[str, int], dict[str, int]]:
        """(tenant, minute number) -> the columns that are not 0."""
        columns = ("received", "aggregated", "pending", "orphaned", "duplicate", "late", "rejected")
        found = {}
        for (tenant_id, minute_us), entry in self.rows.ledger.items():
            counts = {name: getattr(entry, name) for name in columns if getattr(entry, name)}
            assert entry.received == sum(getattr(entry, name) for name in columns[1:]), entry
            if counts:
                found[tenant_id, (minute_us - START) // MINUTE] = counts
        return found

    def calls(self) -> dict[tuple[str, int], int]:
        """(tenant, minute number) -> calls."""
        found: dict[tuple[str, int], int] = {}
        for (tenant_id, _, _, start_us), row in self.rows.metrics.items():
            place = (tenant_id, (start_us - START) // MINUTE)
            found[place] = found.get(place, 0) + row.cell.calls
        return found

    def letters(self) -> list[dict[str, Any]]:
        """All dead letters."""
        found = []
        for p in range(self.partitions):
            tp = TP(DEAD_LETTERS, p)
            found += [orjson.loads(v) for v in self.log.read_now(tp, self.log.start_offset(tp)).values]
        return found
