"""The topics, their keys and what travels between the stages."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from streamlens.log import TP, Record
from streamlens.partitioner import cached_partition_of

REQUESTS = "llm.requests"
RESPONSES = "llm.responses"
CALLS = "llm.calls"
INPUTS = {REQUESTS: "request", RESPONSES: "response", CALLS: "call"}
"""Input topics, keyed by request id and equally partitioned, with the kind of event in each."""

EVALUATIONS = "llm.evaluations"
APP_LOGS = "streamlens.applogs"
SYSTEM_METRICS = "streamlens.sysmetrics"
OBSERVATIONS = {EVALUATIONS: "evaluation", APP_LOGS: "log", SYSTEM_METRICS: "metric"}
"""Topics of what applications tell besides their calls, with the kind of event in each."""
SOURCES = INPUTS | OBSERVATIONS
"""All that stage one reads. Evaluations too are keyed by request id, logs and metrics by a hash of their bytes."""

PARTIALS = "streamlens.partials"
METRICS = "llm.metrics"
DEAD_LETTERS = "streamlens.dlq"


CLOSED_KEY = b"c"
"""Stands where else the key of a row is: the content is (closed window, expired window)."""


class Partials(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One partition's whole contributions to rows: what it sends to one partition of stage two in an epoch, or a part.

    `rows` are (the row's key in the state of both stages, content). Repeated or reordered they change nothing: only a
    higher (generation, epoch) of a partition counts.
    """

    partition: int
    generation: int
    epoch: int
    appended_ms: int
    """When the oldest event of the epoch was appended to its topic, to measure freshness; 0 when not known."""
    rows: list[tuple[bytes, bytes]]


def packed(
    rows: Iterable[tuple[bytes, bytes]], partition: int, version: tuple[int, int], appended_ms: int, partitions: int
) -> Iterator[tuple[TP, Record]]:
    """The records for an epoch's partials: many share one, because a record costs more than a row in it."""
    packs: list[list[tuple[bytes, bytes]]] = [[] for _ in range(partitions)]
    sizes = [0] * partitions

    def record(to: int) -> tuple[TP, Record]:
        pack, packs[to], sizes[to] = packs[to], [], 0
        return TP(PARTIALS, to), Record(None, _encode(Partials(partition, *version, appended_ms, pack)))

    for row in rows:
        key, content = row
        for to in range(partitions) if key == CLOSED_KEY else (cached_partition_of(_home(key), partitions),):
            packs[to].append(row)
            sizes[to] += len(key) + len(content)
            if sizes[to] >= _PACK_BYTES:
                yield record(to)
    for to, pack in enumerate(packs):
        if pack:
            yield record(to)


def _home(key: bytes) -> bytes:
    """What decides the partition of a row: its names. The variants of an experiment have one partition, so that whoever
    looks while one is behind, sees as much of each variant."""
    if key[:1] == _VARIANT:
        experiment = _EXPERIMENT.match(key, 5)
        assert experiment is not None
        return experiment[0]
    return key[5:]


_VARIANT = b"x"  # of `tables/experiments.py`
_EXPERIMENT = re.compile(rb"(?s)[^\0]*\0(?:[^\\/]|\\.)*")  # tenant NUL experiment, as `facets.variant_value` has it
_PACK_BYTES = 64 << 10

_encode = msgspec.msgpack.Encoder().encode
decode_partials = msgspec.msgpack.Decoder(Partials).decode
encode_closed = msgspec.msgpack.Encoder().encode
decode_closed = msgspec.msgpack.Decoder(tuple[int, int]).decode
