"""The records of a body on their way to the log, by partition, which is found for many keys at once."""

from collections import defaultdict
from functools import cache

from streamlens.log import TP, Record
from streamlens.partitioner import partitions_of

_tp = cache(TP)


class Batches:
    """What is added is in no partition before `placed`, which may be called again and again."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._waiting: list[tuple[str, bytes, Record]] = []
        self._placed: defaultdict[TP, list[Record]] = defaultdict(list)

    def add(self, topic: str, key: bytes, record: Record) -> None:
        """Put a record behind the others."""
        self._waiting.append((topic, key, record))

    def placed(self) -> dict[TP, list[Record]]:
        """All records so far, in their order."""
        partitions = partitions_of([key for _, key, _ in self._waiting], self._partitions)
        for topic, key, record in self._waiting:
            self._placed[_tp(topic, partitions[key])].append(record)
        self._waiting.clear()
        return self._placed
