"""What retention lets go of: pure searches over the stored batches of the partitions."""

from collections.abc import Callable, Mapping

from streamlens.locallog.batch import Stored
from streamlens.locallog.catalog import Topic
from streamlens.locallog.partition import Partition
from streamlens.log import TP, TopicSpec


def new_starts(
    partitions: Mapping[TP, Partition], topics: Mapping[str, Topic], unread: Mapping[TP, int], now_ms: int
) -> dict[TP, int]:
    """The offsets from which partitions are kept, for those that let go of something. What is unread stays."""
    moved: dict[TP, int] = {}
    for tp, partition in partitions.items():
        topic = topics[tp.topic]
        spec = TopicSpec(tp.topic, topic.partitions, topic.retention_ms, topic.retention_bytes)
        start = kept_from(partition, spec, now_ms)
        start = min(start, unread.get(tp, start))
        if start > partition.start:
            moved[tp] = start
    return moved


def kept_from(partition: Partition, spec: TopicSpec, now_ms: int) -> int:
    """The offset from which `partition` is kept: a batch boundary, or the start when nothing goes.

    Whole batches only, and never the last one. The cost is a few reads when nothing goes, else a binary search.
    """
    last = partition.find(partition.end)
    if last is None or partition.start >= last.first:
        return partition.start
    kept = partition.start
    if spec.retention_ms >= 0:
        oldest_ms = now_ms - spec.retention_ms
        kept = _first(partition, kept, last, lambda stored: stored.append_ms >= oldest_ms)
    if spec.retention_bytes >= 0:
        beyond = partition.position - spec.retention_bytes
        kept = _first(partition, kept, last, lambda stored: stored.position >= beyond)
    return kept


def _first(partition: Partition, start: int, last: Stored, keep: Callable[[Stored], bool]) -> int:
    """The first offset in [start, last.first] whose batch `keep` wants: it says no up to some batch, then yes."""
    low, high = start, last.first
    while low < high:
        middle = (low + high) // 2 if low > start else low  # the first probe ends the search when nothing goes
        stored = partition.find(middle)
        if stored is None:
            raise ValueError(f"no batch holds the record {middle}")
        if keep(stored):
            high = max(low, stored.first)
        else:
            low = stored.next
    return low
