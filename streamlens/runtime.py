"""The parts of one running process, in the order in which they start and stop: log, Postgres, stages, HTTP services.

Faust drives it: the app starts and stops it, the table manager hands it partitions.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import ceil
from typing import Any, NoReturn

import structlog

from streamlens.brokers import Broker, open_log
from streamlens.checkpoint.appends import StageLogic
from streamlens.checkpoint.stage import Stage
from streamlens.checkpoint.store import RocksStore, Shared
from streamlens.errors import BadSetting, StreamLensError, Unavailable
from streamlens.keys import Keys
from streamlens.letterindex import LetterIndex
from streamlens.log import TP, Member, TopicSpec
from streamlens.metrics import CHECKPOINT_AGE, CONSUMER_LAG, WATERMARK_LAG
from streamlens.outbox import Outbox
from streamlens.postgres.database import Database
from streamlens.postgres.keys import KeyReader
from streamlens.postgres.retention import Retention
from streamlens.postgres.rollup import Rollup
from streamlens.settings import Settings
from streamlens.topics import DEAD_LETTERS, METRICS, PARTIALS, SOURCES

logger = structlog.get_logger()

FATAL_EXIT_CODE = 1
_STOP_S = 8.0
_REST_S = 1.5
"""How long the last checkpoint of a stage may take at the end."""


def clock_us() -> int:
    """The wall clock, microseconds since the epoch."""
    return time.time_ns() // 1000


class Runtime:
    """Everything that this process runs besides Faust itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stages: list[Stage] = []
        self.log: Broker
        self.database = Database(settings)
        self.keys: Keys | None = None
        """Whose requests are taken; None: everybody's."""
        self.started_us = clock_us()
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.crashed = False
        self.assigned = 0
        """How many units' partitions the group has given to this process."""
        self.on_started: list[Callable[[Runtime], None]] = []
        """Called when log and Postgres can be used: the views get what they need."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called once the partitions are recovered and the streams flow."""
        self._shared = Shared()
        self._tasks: list[asyncio.Task[None]] = []
        self._outboxes: list[Outbox] = []
        self._key_reader: KeyReader | None = None

    # -- what the agents' modules declare ------------------------------------------------------------------------

    def add_stage(
        self, name: str, topics: Sequence[str], changelog: str, new_logic: Callable[[int], StageLogic], *, rows: bool
    ) -> Stage:
        """A stage of the pipeline; `rows`: its outputs go to Postgres too, and may wait for it."""
        directory = self.settings.data_dir / "state" / name
        stage = Stage(
            name,
            topics,
            changelog,
            self.settings.consumer_group,
            open_store=lambda partition: RocksStore(directory / str(partition), self._shared),
            new_logic=new_logic,
            fatal=self.fatal,
            clock_us=clock_us,
            lagging_sink=rows,
            in_bytes=self.settings.capture_content == "on",  # texts are held in memory for the length of an epoch
        )
        self.stages.append(stage)
        self.stages.sort(key=lambda each: each.lagging_sink)  # modules come in any order; checkpoints go downstream
        if rows:
            self._outboxes.append(Outbox(stage, self.database, clock_us))
        return stage

    # -- start and stop ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the log and connect Postgres; returns when both can be used, or Postgres is known to be away."""
        settings = self.settings
        (settings.data_dir / "faust").mkdir(parents=True, exist_ok=True)
        self.log = open_log(settings, self.fatal)
        await self.log.start()
        try:
            await self.log.create_topics(self.topics())
        except BadSetting as error:
            raise BadSetting(f"{error} (STREAMLENS_PARTITIONS is {settings.partitions})") from None
        await self.database.start(self.log.log_id)
        if settings.auth == "keys":
            await self._follow_keys()
        for started in self.on_started:
            started(self)

    async def _follow_keys(self) -> None:
        self._key_reader = KeyReader(self.database.dsn)
        self.keys = Keys(self._key_reader.load)
        if not self.database.trouble:
            with suppress(Unavailable):  # else it follows as soon as it can
                await self.keys.refresh()
        self._tasks.append(asyncio.create_task(self.keys.run(self.fatal)))

    def topics(self) -> list[TopicSpec]:
        """All topics, as they must exist."""
        partitions = self.settings.partitions
        kept_ms = int(self.settings.log_retention_h * 3_600_000) or -1
        names = [*SOURCES, PARTIALS, METRICS, DEAD_LETTERS]
        changelogs = [stage.changelog for stage in self.stages]
        return [TopicSpec(name, partitions, kept_ms) for name in names] + [TopicSpec(n, partitions) for n in changelogs]

    async def stop(self) -> None:
        """After Faust and HTTP have stopped: let the rows reach Postgres, then close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stage in self.stages:
            stage.close()
        if self._key_reader is not None:
            self._key_reader.close()
        await self.database.stop()
        await self.log.stop()

    # -- partitions, as Faust's table manager tells --------------------------------------------------------------

    def connect(self, member: Member) -> None:
        """Before partitions come: the consumer that brings the runs."""
        for stage in self.stages:
            stage.connect(self.log, member)

    async def take_over(self, assigned: Iterable[TP]) -> None:
        """Recover what the group has assigned."""
        self.assigned = len({tp for tp in assigned if any(tp.topic in stage.topics[:1] for stage in self.stages)})
        try:
            for stage in self.stages:
                await stage.take_over({tp.partition for tp in assigned if tp.topic in stage.topics})
        except Exception as error:
            self.fatal(error)
            raise

    def source_offsets(self) -> dict[TP, int]:
        """Where to read each source partition on."""
        return {tp: offset for stage in self.stages for tp, offset in stage.source_offsets().items()}

    async def revoke(self) -> None:
        """The group takes all partitions away, perhaps to give some back: a last checkpoint of each stage."""
        for stage in self.stages:
            await stage.give_up()

    def lag(self) -> int:
        """Records in the log that no unit has counted yet."""
        return sum(sum(stage.lag().values()) for stage in self.stages)

    def observe(self) -> None:
        """Set the gauges that are only worth a look when somebody asks for them."""
        now_us = clock_us()
        for gauge in (CONSUMER_LAG, CHECKPOINT_AGE, WATERMARK_LAG):
            gauge.clear()  # of partitions that are no longer here
        for stage in self.stages:
            for tp, records in stage.lag().items():
                CONSUMER_LAG.labels(tp.topic, str(tp.partition)).set(records)
            for partition, unit in stage.units.items():
                age_us = now_us - stage.last_checkpoint_us if stage.last_checkpoint_us else 0
                CHECKPOINT_AGE.labels(stage.name, str(partition)).set(age_us / 1e6)
                watermark_us = getattr(unit.logic, "watermark_us", None)
                if watermark_us is not None:
                    WATERMARK_LAG.labels(str(partition)).set((now_us - watermark_us) / 1e6 if watermark_us else 0)

    def backlog(self) -> int:
        """Rows that Postgres does not have yet."""
        return sum(outbox.backlog for outbox in self._outboxes)

    def freshness_s(self, q: float) -> float | None:
        """The quantile of the last rows' freshness, by nearest rank; None before there were any."""
        last = sorted(seconds for outbox in self._outboxes for seconds in outbox.freshness_s)
        return last[ceil(q * len(last)) - 1] if last else None

    def resumed(self) -> None:
        """The streams flow: begin the checkpoints, once."""
        if not self.ready.is_set():
            for stage in self.stages:
                self._tasks.append(asyncio.create_task(stage.run(self.settings.checkpoint_interval_s)))
            for outbox in self._outboxes:
                self._tasks.append(asyncio.create_task(outbox.run(self.fatal)))
            index = LetterIndex(self.log, self.database.pool, lambda: self.stages[0].units)
            self._tasks.append(asyncio.create_task(index.run()))
            retention = Retention(self.database, self.settings, clock_us)
            self._tasks.append(asyncio.create_task(retention.run()))
            rollup = Rollup(self.database, self.settings.partitions)
            self._tasks.append(asyncio.create_task(rollup.run()))
            self.ready.set()
            self.on_ready()

    async def give_up(self) -> None:
        """The streams have stopped: a last checkpoint of each stage, and its rows to Postgres if it is there."""
        if self.crashed:
            return
        for stage in self.stages:
            with suppress(TimeoutError, Unavailable):  # nothing is lost: the next start counts it again
                async with asyncio.timeout(_REST_S):
                    if PARTIALS in stage.topics:  # what stage one has just published; events wait in the log
                        await stage.read_rest()
                    await stage.tick()
        for outbox in self._outboxes:
            await outbox.drain()

    def begin_stop(self) -> None:
        """The process was asked to end, and does so by a deadline, whatever a driver's thread is waiting for."""
        self.stopping.set()
        loop = asyncio.get_running_loop()
        deadline = threading.Timer(_STOP_S, self._stop_at_once, (loop,))
        deadline.daemon = True
        deadline.start()

    def _stop_at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = sorted({_where(task) for task in asyncio.all_tasks(loop)})
        logger.warning("stopped at once: nothing is lost, the next start counts on", after_s=_STOP_S, waiting=waiting)
        self.database.kill()
        _exit(0)

    # -- the end -------------------------------------------------------------------------------------------------

    def fatal(self, error: BaseException) -> None:
        """End the process at once, with a clear last line: to go on, or to checkpoint, could mean wrong numbers.

        What was acknowledged is in the log; the next start continues from the last epoch.
        """
        if self.crashed:
            return
        self.crashed = True
        if not isinstance(error, StreamLensError):  # its sentence says what to do
            logger.critical("stopping", exc_info=error)
        self.database.kill()
        logger.critical("stopped", reason=f"{type(error).__name__}: {error}")
        _exit(FATAL_EXIT_CODE)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _where(task: "asyncio.Task[object]") -> str:
    """The innermost calls that a task waits in."""
    calls: list[str] = []
    call: Any = task.get_coro()
    while hasattr(call, "cr_await"):
        calls.append(call.__qualname__)
        call = call.cr_await
    return " > ".join(calls[-3:])
