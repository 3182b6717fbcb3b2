"""Which partition a key belongs to: Kafka's default partitioner, so that producers in any language agree with us."""

from functools import lru_cache
from struct import unpack_from

_SEED = 0x9747B28C
_M = 0x5BD1E995
_BITS = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, 0 to `partitions` - 1, that Kafka's Java client chooses: `toPositive(murmur2(key)) % n`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


cached_partition_of = lru_cache(1 << 16)(partition_of)
"""For keys that come again and again."""

id_partition_of = lru_cache(1 << 12)(partition_of)
"""For ids, which come twice at most: few are kept, since a request and its response are often in one body."""


def murmur2(key: bytes) -> int:
    """The 32-bit MurmurHash2 of Kafka, unsigned.

    In Python, because the bindings to C give up the interpreter's lock at each call, and wait for it afterwards.
    """
    size = len(key)
    words, rest = divmod(size, 4)
    h = _SEED ^ size
    for k in unpack_from(f"<{words}I", key):
        k = k * _M & _BITS
        h = (h * _M ^ (k ^ k >> 24) * _M) & _BITS
    if rest:
        h = (h ^ int.from_bytes(key[-rest:], "little")) * _M & _BITS
    h = (h ^ h >> 13) * _M & _BITS
    return h ^ h >> 15
