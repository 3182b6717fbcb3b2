"""Which log this process stands on: Kafka where brokers are named, else the local log in the data directory."""

import ssl
from collections.abc import Callable
from typing import Protocol

from streamlens.errors import StreamLensError
from streamlens.kafka.connection import KafkaSecurity
from streamlens.kafka.log import KafkaLog
from streamlens.locallog.local import LocalLog
from streamlens.log import Log
from streamlens.settings import Settings


class Broker(Log, Protocol):
    """A log with a life of its own. `log_id` tells two logs apart, so that their rows never mix."""

    @property
    def log_id(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def open_log(settings: Settings, on_failure: Callable[[StreamLensError], None]) -> Broker:
    """Open it, to be started. `on_failure` is called once when nothing can be appended any more."""
    if settings.kafka_brokers:
        return KafkaLog(settings.kafka_brokers, security=security(settings), group=settings.consumer_group)
    return LocalLog.open(
        settings.data_dir / "log",
        sync=settings.log_sync == "always",
        on_failure=on_failure,
        reader=settings.consumer_group,
    )


def security(settings: Settings) -> KafkaSecurity:
    """TLS and SASL by the settings."""
    encrypted = settings.kafka_security.endswith("SSL")
    return KafkaSecurity(
        security_protocol=settings.kafka_security,
        ssl_context=ssl.create_default_context(cafile=settings.kafka_ca_file) if encrypted else None,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_plain_username=settings.kafka_username or None,
        sasl_plain_password=settings.kafka_password or None,
    )
