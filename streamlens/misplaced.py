"""Warns of records whose key is not in its murmur2 partition: they may never meet their other half."""

import structlog

from streamlens.metrics import MISPLACED_KEYS
from streamlens.partitioner import partition_of

logger = structlog.get_logger()

_warned: set[str] = set()
"""The topics of which this process has warned."""


def check_place(topic: str, request_id: str, partition: int, partitions: int) -> None:
    """Look at one record: count it if it is elsewhere; warn of a topic's first."""
    if partition_of(request_id.encode(), partitions) == partition:
        return
    MISPLACED_KEYS.labels(topic).inc()
    if topic not in _warned:
        _warned.add(topic)
        logger.warning("key not in its murmur2 partition", topic=topic, partition=partition, key=request_id)
