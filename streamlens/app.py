"""The one Faust app of StreamLens. `faust -A streamlens.app worker` runs it by the environment's settings."""

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import click
import faust
from faust.transport.drivers import TRANSPORTS
from faust.web.drivers import DRIVERS
from yarl import URL

from streamlens.brokers import security
from streamlens.checkpoint.appends import StageLogic
from streamlens.checkpoint.stage import Stage
from streamlens.errors import BadSetting
from streamlens.member import hold, member_id
from streamlens.runtime import Runtime
from streamlens.settings import Settings
from streamlens.transports.tables import TableManager

TRANSPORTS.aliases["kafkaruns"] = "streamlens.transports.kafka:Transport"
TRANSPORTS.aliases["locallog"] = "streamlens.transports.local:Transport"
DRIVERS.aliases["streamlens"] = "web.driver:Web"

MODULES = (
    "agents.join",
    "agents.windows",
    "web.wiring",
    "web.ingest",
    "web.intake",
    "web.otlp",
    "web.query",
    "web.projects",
    "web.dlq",
    "web.observed",
    "web.experiments",
    "web.analytics",
    "web.live",
    "web.calls",
    "web.visits",
    "web.status",
    "web.health",
    "web.prometheus",
    "web.pages",
    "web.reference",
)
"""Modules, not packages: Faust swallows the import errors of a package."""
OTLP_GRPC = "web.otlpgrpc"
"""Where its port is set."""


class Topic(faust.Topic):
    """A topic of several names, which Faust's own commands can list."""

    def get_topic_name(self) -> str:
        return ", ".join(self.topics)


class App(faust.App):
    """A Faust app that runs a `Runtime` beside its own services."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.settings = settings
        self.runtime = Runtime(settings)
        self.new_logic: dict[str, Callable[[int], StageLogic]] = {}
        """How a partition's logic is made, by the stage's table."""
        super().__init__(settings.consumer_group, **options)

    def stage(
        self, table: str, topics: Sequence[str], new_logic: Callable[[int], StageLogic], *, rows: bool = False
    ) -> Stage:
        """Declare a stage and its Faust table. Its changelog has Faust's name, so that Faust's tools know it."""
        self.new_logic[table] = new_logic
        self.Table(table, partitions=self.settings.partitions, help=f"kept by the stage that reads {', '.join(topics)}")
        return self.runtime.add_stage(table, topics, f"{self.conf.id}-{table}-changelog", new_logic, rows=rows)

    def bind(self, host: str, port: int) -> None:
        """Serve there, whatever the settings said: a command line has its options after the app is made."""
        self.conf.web_bind = self.conf.web_host = host
        self.conf.web_port = port

    def worker_init(self) -> None:
        """Called by Faust's command line, when it has found the app."""
        super().worker_init()
        importlib.import_module("streamlens.cli.faust_commands")

    async def on_first_start(self) -> None:
        try:
            if self.settings.kafka_brokers:
                self._member_lock = hold(self.settings.data_dir)
            await self.runtime.start()
        except Exception as error:
            self.runtime.fatal(error)
            raise
        self.runtime.connect(self.consumer)
        self.on_partitions_revoked.connect(self.tables.on_revoked)
        await super().on_first_start()

    async def on_stop(self) -> None:
        self.runtime.begin_stop()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        await self.runtime.stop()

    def _crash(self, reason: BaseException) -> None:
        # A crashed Faust service would leave the process alive, and a checkpoint could save half a run.
        self.runtime.fatal(reason)


def create_app(settings: Settings) -> App:
    """The app by its settings. Raises `BadSetting`."""
    return App(
        settings,
        **(_on_kafka(settings) if settings.kafka_brokers else _on_local_log(settings)),
        web="streamlens://",
        web_bind=settings.http_host,
        web_host=settings.http_host,
        web_port=settings.http_port,
        web_tables_enabled=False,
        web_application_options={"client_max_size": settings.max_body_mib << 20},
        store="memory://",  # what Faust would keep itself; the units' stores are ours
        datadir=str(settings.data_dir / "faust"),
        # Without an origin, which would make Faust import all that is below it.
        autodiscover=(*MODULES, OTLP_GRPC) if settings.otlp_grpc_port else MODULES,
        TableManager=TableManager,
        Topic=Topic,
        topic_partitions=settings.partitions,
        topic_disable_leader=True,
        stream_buffer_maxsize=4,  # counts runs, not records
        stream_wait_empty=False,
        agent_supervisor="mode.CrashingSupervisor",
        worker_redirect_stdouts=False,
        version=1,
    )


def _on_local_log(settings: Settings) -> dict[str, Any]:
    return {"broker": "locallog://", "canonical_url": settings.url}


def _on_kafka(settings: Settings) -> dict[str, Any]:
    member = member_id(settings.data_dir, settings.member_id)
    credentials: Any = None
    kafka = security(settings)
    if kafka.sasl_plain_username:
        credentials = faust.SASLCredentials(
            username=kafka.sasl_plain_username,
            password=kafka.sasl_plain_password,
            mechanism=kafka.sasl_mechanism,
            ssl_context=kafka.ssl_context,
        )
    elif kafka.ssl_context:
        credentials = faust.SSLCredentials(kafka.ssl_context)
    return {
        "broker": [URL(f"kafkaruns://{broker.strip()}") for broker in settings.kafka_brokers.split(",")],
        "broker_credentials": credentials,
        "broker_session_timeout": settings.kafka_session_s,
        "broker_heartbeat_interval": settings.kafka_session_s / 10,
        "broker_request_timeout": max(30, settings.kafka_session_s),
        "broker_max_poll_records": 32,  # counts runs
        "ConsumerScheduler": "streamlens.transports.kafka:PartialsFirst",
        "consumer_auto_offset_reset": "none",  # positions come from the units' state
        "consumer_group_instance_id": member,
        "canonical_url": f"http://{member}.worker",  # must not change for a static member: without the port
        "table_standby_replicas": 0,
    }


try:
    app = create_app(Settings.load(os.environ))
except BadSetting as wrong:
    raise click.ClickException(str(wrong)) from wrong  # which Faust's command line shows as one sentence
