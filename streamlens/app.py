"""The one Faust app of StreamLens. `faust -A streamlens.app worker` runs it by the environment's settings."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import faust
from faust.transport.drivers import TRANSPORTS
from faust.web.drivers import DRIVERS

from streamlens.checkpoint.stage import Stage, StageLogic
from streamlens.errors import BadSetting
from streamlens.runtime import Runtime
from streamlens.settings import Settings
from streamlens.transports.tables import TableManager

TRANSPORTS.aliases["locallog"] = "streamlens.transports.local:Transport"
DRIVERS.aliases["streamlens"] = "web.driver:Web"

MODULES = (
    "agents.join",
    "agents.windows",
    "web.wiring",
    "web.ingest",
    "web.query",
    "web.health",
    "web.prometheus",
    "web.pages",
)
"""Modules, not packages: Faust swallows the import errors of a package."""


class App(faust.App):
    """A Faust app that runs a `Runtime` beside its own services."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.runtime = Runtime(settings)
        super().__init__(settings.consumer_group, **options)

    def stage(
        self, table: str, topics: Sequence[str], new_logic: Callable[[int], StageLogic], *, rows: bool = False
    ) -> Stage:
        """Declare a stage and its Faust table. Its changelog has Faust's name, so that Faust's tools know it."""
        self.Table(table, partitions=self.settings.partitions, help=f"kept by the stage that reads {', '.join(topics)}")
        return self.runtime.add_stage(table, topics, f"{self.conf.id}-{table}-changelog", new_logic, rows=rows)

    async def on_first_start(self) -> None:
        try:
            await self.runtime.start()
        except Exception as error:
            self.runtime.fatal(error)
            raise
        await super().on_first_start()

    async def on_started(self) -> None:
        self.runtime.connect_consumer(self.consumer.seek_now)
        await super().on_started()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        await self.runtime.stop()

    def _crash(self, reason: BaseException) -> None:
        # A crashed Faust service would leave the process alive, and a checkpoint could save half a run.
        self.runtime.fatal(reason)


def create_app(settings: Settings) -> App:
    """The app by its settings. Raises `BadSetting`."""
    if settings.kafka_brokers:
        raise BadSetting("KAFKA_BROKERS: this version runs on the local log only; unset it")
    return App(
        settings,
        broker="locallog://",
        web="streamlens://",
        web_bind=settings.http_host,
        web_host=settings.http_host,
        web_port=settings.http_port,
        web_tables_enabled=False,
        web_application_options={"client_max_size": settings.max_body_mib << 20},
        store="memory://",  # what Faust would keep itself; the units' stores are ours
        datadir=str(settings.data_dir / "faust"),
        autodiscover=MODULES,
        origin="streamlens",
        TableManager=TableManager,
        topic_partitions=settings.partitions,
        topic_disable_leader=True,
        stream_buffer_maxsize=4,  # counts runs, not records
        stream_wait_empty=False,
        agent_supervisor="mode.CrashingSupervisor",
        worker_redirect_stdouts=False,
        version=1,
    )


app = create_app(Settings.load(os.environ))
