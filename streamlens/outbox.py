"""Brings a stage's rows to Postgres, which may lag behind: what it has not acknowledged waits in the units' state."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from streamlens.checkpoint.frames import Version
from streamlens.checkpoint.stage import Stage
from streamlens.checkpoint.unit import Unit
from streamlens.errors import Unavailable
from streamlens.metrics import FRESHNESS_SECONDS, LEDGER_IMBALANCE, POSTGRES_WRITE_SECONDS
from streamlens.postgres.rows import LedgerRow
from streamlens.postgres.tables import Row

logger = structlog.get_logger()

_ROWS_PER_WRITE = 5_000
_BYTES_PER_WRITE = 16 << 20
"""Where rows are texts: a write holds them in memory several times over."""
_RETRY_S = (0.2, 0.5, 1.0, 2.0)
_LAST_WORDS_S = 2.0
_LAST_WRITES = 1_000


class RowLogic(Protocol):
    """A logic whose outputs are rows."""

    since_ms: int
    """When the oldest event of this epoch was appended, as far as it is known; 0: there is none, or not known."""
    unwritten_since_ms: int
    """When the oldest event was appended whose row is not yet written; 0: none, or not known."""

    def rendered(self, key: bytes, version: Version) -> Row | None:
        """An output as it was published just now, if it is at hand."""

    def row(self, key: bytes, value: bytes, version: Version) -> Row:
        """An output, made of its value in the state."""


class Sink(Protocol):
    async def write(self, rows: list[Row]) -> None:
        """Put absolute rows, guarded by version, all or none. Raises `Unavailable` to be called again."""


class Outbox:
    """The lagging sink of one stage."""

    def __init__(self, stage: Stage, sink: Sink, clock_us: Callable[[], int]) -> None:
        self._stage = stage
        self._sink = sink
        self._clock_us = clock_us
        self.freshness_s: deque[float] = deque(maxlen=_LAST_WRITES)
        """Seconds from the append of an event to the commit of its row, of the last writes."""
        self._wake = asyncio.Event()
        self._open: dict[tuple[str, int], int] = {}
        stage.on_checkpoint = self._wake.set

    @property
    def backlog(self) -> int:
        """How many rows wait."""
        return sum(unit.backlog for unit in self._stage.units.values())

    async def run(self, fatal: Callable[[BaseException], None]) -> None:
        """Write after each checkpoint, for ever; while Postgres is away, try again with back-off."""
        tries = 0
        while True:
            try:
                if not await self._write_some():
                    if tries:
                        logger.info("postgres has caught up")
                    tries = 0
                    await self._wake.wait()
                self._wake.clear()
            except Unavailable as error:
                if tries == 0:
                    logger.warning("postgres is away, rows wait in the state", reason=str(error))
                await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
            except Exception as error:
                fatal(error)
                raise

    async def drain(self) -> None:
        """Before the end: write what waits, if Postgres takes it at once. What it does not take waits on disk."""
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                while await self._write_some():
                    pass
        except (Unavailable, TimeoutError) as error:
            logger.warning("rows wait in the state for the next start", rows=self.backlog, reason=str(error))

    async def _write_some(self) -> bool:
        """One transaction of all units' rows; False when there was nothing to write."""
        taken: list[tuple[Unit, dict[bytes, Version]]] = []
        rows: list[Row] = []
        room, room_bytes = _ROWS_PER_WRITE, _BYTES_PER_WRITE
        for unit in self._stage.units.values():
            waiting = dict[bytes, Version]()
            taken.append((unit, waiting))
            logic: RowLogic = unit.logic  # type: ignore[assignment]  # a stage with rows has a logic with rows
            for key, version in unit.waiting(room).items():
                if room_bytes <= 0:
                    break
                waiting[key] = version
                row = logic.rendered(key, version)
                if row is None:
                    value = unit.state.store.get(key)
                    if value is None:
                        continue  # Deleted since: a later owner had it acknowledged.
                    room_bytes -= len(value)
                    row = logic.row(key, value, version)
                rows.append(row)
            room -= len(waiting)
            if room <= 0 or room_bytes <= 0:
                break
        if not any(waiting for _, waiting in taken):
            return False
        with POSTGRES_WRITE_SECONDS.time():
            await self._sink.write(rows)
        self._check(row for row in rows if isinstance(row, LedgerRow))
        now_ms = self._clock_us() // 1000
        for unit, waiting in taken:
            unit.acked(waiting)
            written: RowLogic = unit.logic  # type: ignore[assignment]
            if written.unwritten_since_ms:
                fresh_s = max(0, now_ms - written.unwritten_since_ms) / 1000
                FRESHNESS_SECONDS.observe(fresh_s)
                self.freshness_s.append(fresh_s)
                written.unwritten_since_ms = 0
        return True

    def _check(self, ledger: Iterable[LedgerRow]) -> None:
        """Tell by how many events the rows written so far do not close."""
        for row in ledger:
            self._open.pop((row.tenant_id, row.minute_us), None)
            if row.imbalance:
                self._open[row.tenant_id, row.minute_us] = abs(row.imbalance)
        LEDGER_IMBALANCE.set(sum(self._open.values()))
