"""The parts of one running process, in the order in which they start and stop: log, Postgres, stages, HTTP services.

Faust drives it: the app starts and stops it, the table manager hands it partitions.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import structlog

from streamlens.checkpoint.stage import Stage, StageLogic
from streamlens.checkpoint.store import RocksStore, Shared
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, TopicSpec
from streamlens.metrics import CHECKPOINT_AGE, CONSUMER_LAG, WATERMARK_LAG
from streamlens.outbox import Outbox
from streamlens.postgres.database import Database
from streamlens.settings import Settings
from streamlens.topics import DEAD_LETTERS, INPUTS, METRICS, PARTIALS

logger = structlog.get_logger()

FATAL_EXIT_CODE = 1
_REST_S = 1.0


def clock_us() -> int:
    """The wall clock, microseconds since the epoch."""
    return time.time_ns() // 1000


class Runtime:
    """Everything that this process runs besides Faust itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stages: list[Stage] = []
        self.log: LocalLog
        self.database = Database(settings)
        self.started_us = clock_us()
        self.ready = asyncio.Event()
        self.crashed = False
        self.on_started: list[Callable[[Runtime], None]] = []
        """Called when log and Postgres can be used: the views get what they need."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called once the partitions are recovered and the streams flow."""
        self._shared = Shared()
        self._tasks: list[asyncio.Task[None]] = []
        self._outboxes: list[Outbox] = []
        self._seek: Callable[[TP, int], None] = lambda tp, offset: None

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
        self.log = LocalLog.open(
            settings.data_dir / "log",
            sync=settings.log_sync == "always",
            on_failure=self.fatal,
            reader=settings.consumer_group,
        )
        await self.log.start()
        await self.log.create_topics(self._topics())
        for stage in self.stages:
            stage.connect(self.log, lambda tp, offset: self._seek(tp, offset))
        await self.database.start(self.log.log_id)
        for started in self.on_started:
            started(self)

    def _topics(self) -> list[TopicSpec]:
        partitions = self.settings.partitions
        kept_ms = int(self.settings.log_retention_h * 3_600_000) or -1
        names = [*INPUTS, PARTIALS, METRICS, DEAD_LETTERS]
        changelogs = [stage.changelog for stage in self.stages]
        return [TopicSpec(name, partitions, kept_ms) for name in names] + [TopicSpec(n, partitions) for n in changelogs]

    async def stop(self) -> None:
        """After Faust and HTTP have stopped: let the rows reach Postgres, then close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stage in self.stages:
            stage.close()
        await self.database.stop()
        await self.log.stop()

    # -- partitions, as Faust's table manager tells --------------------------------------------------------------

    def connect_consumer(self, seek: Callable[[TP, int], None]) -> None:
        self._seek = seek

    async def take_over(self, assigned: Iterable[TP]) -> None:
        try:
            for stage in self.stages:
                await stage.take_over({tp.partition for tp in assigned if tp.topic in stage.topics})
        except Exception as error:
            self.fatal(error)
            raise

    def source_offsets(self) -> dict[TP, int]:
        """Where to read each source partition on."""
        return {tp: offset for stage in self.stages for tp, offset in stage.source_offsets().items()}

    def lag(self) -> int:
        """Records in the log that no unit has counted yet."""
        return sum(self.log.end_offset(tp) - offset for tp, offset in self.source_offsets().items())

    def observe(self) -> None:
        """Set the gauges that are only worth a look when somebody asks for them."""
        for tp, offset in self.source_offsets().items():
            CONSUMER_LAG.labels(tp.topic, str(tp.partition)).set(self.log.end_offset(tp) - offset)
        now_us = clock_us()
        for stage in self.stages:
            for partition, unit in stage.units.items():
                age_us = now_us - stage.last_checkpoint_us if stage.last_checkpoint_us else 0
                CHECKPOINT_AGE.labels(stage.name, str(partition)).set(age_us / 1e6)
                watermark_us = getattr(unit.logic, "watermark_us", None)
                if watermark_us is not None:
                    WATERMARK_LAG.labels(str(partition)).set((now_us - watermark_us) / 1e6 if watermark_us else 0)

    def backlog(self) -> int:
        """Rows that Postgres does not have yet."""
        return sum(outbox.backlog for outbox in self._outboxes)

    def resumed(self) -> None:
        """The streams flow: begin the checkpoints, once."""
        if not self._tasks:
            for stage in self.stages:
                self._tasks.append(asyncio.create_task(stage.run(self.settings.checkpoint_interval_s)))
            for outbox in self._outboxes:
                self._tasks.append(asyncio.create_task(outbox.run(self.fatal)))
            self.ready.set()
            self.on_ready()

    async def give_up(self) -> None:
        """The streams have stopped: a last checkpoint of each stage, and its rows to Postgres if it is there."""
        if self.crashed:
            return
        for stage in self.stages:
            if PARTIALS in stage.topics:  # what stage one has just published; events wait in the log
                with suppress(TimeoutError):
                    async with asyncio.timeout(_REST_S):
                        await stage.read_rest()
            await stage.tick()
        for outbox in self._outboxes:
            await outbox.drain()

    # -- the end -------------------------------------------------------------------------------------------------

    def fatal(self, error: BaseException) -> None:
        """End the process at once, with a clear last line: to go on, or to checkpoint, could mean wrong numbers.

        What was acknowledged is in the log; the next start continues from the last epoch.
        """
        if self.crashed:
            return
        self.crashed = True
        logger.critical("stopping", exc_info=error)
        self.database.kill()
        logger.critical("stopped", reason=f"{type(error).__name__}: {error}")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FATAL_EXIT_CODE)
