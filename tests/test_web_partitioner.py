"""Keys go to the partitions that Kafka's Java client chooses."""

import pytest

from streamlens.partitioner import partition_of

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
