"""What was sent and must count, in a file a minute: so the oracle needs no more than a minute in memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from chaos.cluster import PARTITIONS
from families_oracle import Sent
from streamlens.partitioner import partition_of
from streamlens.simulate.oracle import MINUTE_US


class Journal:
    """Each event once, in the minute of its rows; the halves of a call in that of its request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[int, BinaryIO] = {}
        path.mkdir()

    def note(self, kind: str, at_us: int, raw: bytes) -> None:
        """An event of a kind of `topics.SOURCES`; `at_us` is anywhere in the minute."""
        minute = at_us // MINUTE_US
        if minute not in self._files:
            self._files[minute] = (self._path / str(minute)).open("ab")
        self._files[minute].write(b"%s %s\n" % (kind.encode(), raw))

    def minutes(self) -> Iterator[tuple[int, list[Sent]]]:
        """Each minute, as `families_oracle.expected` takes it. What has no request id is said to be in partition 0."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        for path in sorted(self._path.iterdir()):
            yield int(path.name), [_sent(line) for line in path.read_bytes().splitlines()]


def _sent(line: bytes) -> Sent:
    kind, _, raw = line.partition(b" ")
    event = json.loads(raw)
    partition = partition_of(event["request_id"].encode(), PARTITIONS) if "request_id" in event else 0
    return kind.decode(), event, raw, partition
