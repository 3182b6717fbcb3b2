"""Topics as they must exist, and cutting their heads off."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, OffsetOutOfRangeError, TopicAlreadyExistsError, for_code
from aiokafka.structs import TopicPartition

from streamlens.errors import BadSetting, Damaged
from streamlens.kafka.connection import Connection
from streamlens.log import TP, TopicSpec

MAX_MESSAGE_BYTES = 4 << 20
"""`max.message.bytes` of the topics that are created here."""

LEAST_MESSAGE_BYTES = 640 << 10
"""An existing topic that takes less is refused: single events and parts of changelog frames go up to 512 KiB."""

_log = structlog.get_logger()


class Topics:
    """`limits` holds the real `max.message.bytes` of each topic that `create` has seen."""

    def __init__(self, connection: Connection) -> None:
        self.limits: dict[str, int] = {}
        self._connection = connection
        self._admin: AIOKafkaAdminClient

    async def start(self) -> None:
        self._admin = AIOKafkaAdminClient(**self._connection.arguments())
        await self._connection.answered("take a connection", self._admin.start)

    async def stop(self) -> None:
        await self._admin.close()

    async def cluster_id(self) -> str:
        """What the cluster calls itself, the same for as long as it lives."""
        cluster = await self._connection.answered("tell its id", self._admin.describe_cluster)
        return str(cluster["cluster_id"])

    async def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create what is missing. Raises `BadSetting` for a topic that exists but can't be used as it is."""
        by_name = {spec.name: spec for spec in specs}
        while missing := await self._missing(by_name):
            await self._connection.answered("create topics", partial(self._create, missing))
        await self._connection.answered("describe topics", lambda: self._check_configs(by_name))

    async def delete_before(self, tp: TP, offset: int) -> None:
        """Forget the records below `offset`. Raises `Damaged` when it is above the end."""
        await self._connection.answered("delete records", lambda: self._delete(tp, offset))

    async def _missing(self, specs: dict[str, TopicSpec]) -> list[TopicSpec]:
        # All topics are asked for, because asking for one by name can create it with the cluster's defaults.
        found = await self._connection.answered("list topics", self._admin.describe_topics)
        partitions = {topic["topic"]: len(topic["partitions"]) for topic in found}
        for spec in specs.values():
            count = partitions.get(spec.name, spec.partitions)
            if count != spec.partitions:
                raise BadSetting(f"topic {spec.name} has {count} partitions, not {spec.partitions}")
        return [spec for spec in specs.values() if spec.name not in partitions]

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        brokers = len((await self._admin.describe_cluster())["brokers"])
        response = await self._admin.create_topics([_new_topic(spec, min(3, brokers)) for spec in specs])
        for name, code, *message in response.topic_errors:
            error = for_code(code)
            if error in (NoError, TopicAlreadyExistsError):
                continue
            if error.retriable:
                raise error(name)
            raise BadSetting(f"topic {name} could not be created: {error.__name__} {message[0] if message else ''}")
        _log.info("topics created", topics=len(specs), replication=min(3, brokers))

    async def _check_configs(self, specs: dict[str, TopicSpec]) -> None:
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in specs]
        for response in await self._admin.describe_configs(wanted):
            for code, message, _, name, entries in response.resources:
                if (error := for_code(code)) is not NoError:
                    raise error(message)
                config = {entry[0]: entry[1] for entry in entries}
                _check(specs[name], config)
                self.limits[name] = int(config["max.message.bytes"])

    async def _delete(self, tp: TP, offset: int) -> None:
        try:
            await self._admin.delete_records({TopicPartition(*tp): RecordsToDelete(before_offset=offset)})
        except OffsetOutOfRangeError:
            raise Damaged(
                f"{tp.topic}[{tp.partition}] ends before {offset}, below which it was to be deleted"
            ) from None


def _new_topic(spec: TopicSpec, replication: int) -> NewTopic:
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": spec.retention_ms,
        "retention.bytes": spec.retention_bytes,
        "max.message.bytes": MAX_MESSAGE_BYTES,
        # The broker's clock: retention does not depend on a client's, and freshness can be measured.
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": max(1, replication - 1),
        "unclean.leader.election.enable": "false",
    }
    return NewTopic(spec.name, spec.partitions, replication, topic_configs={k: str(v) for k, v in configs.items()})


def _check(spec: TopicSpec, config: dict[str, Any]) -> None:
    """Raise `BadSetting` where an existing topic would lose or refuse what is written to it."""
    if "compact" in config["cleanup.policy"]:
        raise BadSetting(f"topic {spec.name} has cleanup.policy={config['cleanup.policy']}, it must be delete")
    for name, wanted in (("retention.ms", spec.retention_ms), ("retention.bytes", spec.retention_bytes)):
        if wanted == -1 and spec.retention_ms == -1 and int(config[name]) != -1:
            raise BadSetting(f"topic {spec.name} has {name}={config[name]}, it must be -1: its records are needed")
    if int(config["max.message.bytes"]) < LEAST_MESSAGE_BYTES:
        raise BadSetting(
            f"topic {spec.name} has max.message.bytes={config['max.message.bytes']}, "
            f"it must be at least {LEAST_MESSAGE_BYTES}"
        )
