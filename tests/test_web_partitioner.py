"""Keys go to the partitions that Kafka's Java client chooses."""

import random

import pytest

from streamlens import partitioner
from streamlens.log import TP, Record
from streamlens.partitioner import murmur2, partition_of, partitions_of
from web.batches import Batches

# The hashes of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
VECTORS = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize("partitions", [1, 4, 7, 256])
@pytest.mark.parametrize(("key", "murmur2"), VECTORS)
def test_a_key_has_kafkas_partition(key: bytes, murmur2: int, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2 & 0x7FFFFFFF) % partitions


def some_keys(size: int, count: int) -> list[bytes]:
    draw = random.Random(size)
    return [b"\xff" * size, bytes(size), *(draw.randbytes(size) for _ in range(count - 2))]


@pytest.mark.parametrize("count", [2, 3, 9, 300])
def test_many_keys_have_the_partitions_that_each_has(count: int) -> None:
    for size in range(301 if count < 10 else 50):
        keys = some_keys(size, count)
        assert partitioner._murmur2_of_each(keys, size) == tuple(map(murmur2, keys)), size
        assert partitions_of(keys, 7) == {key: partition_of(key, 7) for key in keys}


def test_many_keys_may_have_many_sizes_and_come_twice_or_not_at_all() -> None:
    keys = [key for size in (1, 2, 33, 36, 49) for key in some_keys(size, 20)] + [key for key, _ in VECTORS]
    random.Random(1).shuffle(keys)
    assert partitions_of([*keys, *keys], 256) == {key: partition_of(key, 256) for key in keys}
    assert partitions_of([], 4) == {}


def test_the_keys_of_a_body_are_hashed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    monkeypatch.setattr(partitioner, "murmur2", lambda key: hashed.append(key) or murmur2(key))
    keys = [f"{number:032x}".encode() for number in range(500)]
    assert len(partitions_of([*keys, b"alone"], 8)) == 501
    assert hashed == [b"alone"]


def test_batches_keep_the_order_of_each_partition() -> None:
    batches = Batches(4)
    expected: dict[TP, list[Record]] = {}
    for number in range(100):
        topic, key = ("a", "b")[number % 2], f"k-{number % 30:03}".encode()
        record = Record(key, b"%d" % number)
        batches.add(topic, key, record)
        expected.setdefault(TP(topic, partition_of(key, 4)), []).append(record)
        if number % 40 == 0:
            batches.placed()
    assert batches.placed() == batches.placed() == expected
    assert Batches(4).placed() == {}
