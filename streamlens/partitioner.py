"""Which partition a key belongs to: Kafka's default partitioner, so that producers in any language agree with us."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import unpack, unpack_from

_SEED = 0x9747B28C
_M = 0x5BD1E995
_BITS = 0xFFFFFFFF
_FEW = 2
"""So many keys take as long one by one."""


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, 0 to `partitions` - 1, that Kafka's Java client chooses: `toPositive(murmur2(key)) % n`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


cached_partition_of = lru_cache(1 << 16)(partition_of)
"""For keys that come again and again."""

id_partition_of = lru_cache(1 << 12)(partition_of)
"""For ids of single events, which come twice at most, and then soon: few are kept."""


def partitions_of(keys: Iterable[bytes], partitions: int) -> dict[bytes, int]:
    """The same for many keys: in a tenth of the time, if they have few different sizes."""
    by_size: defaultdict[int, list[bytes]] = defaultdict(list)
    for key in set(keys):
        by_size[len(key)].append(key)
    found: dict[bytes, int] = {}
    for size, group in by_size.items():
        hashes = map(murmur2, group) if len(group) <= _FEW else _murmur2_of_each(group, size)
        found |= zip(group, [(hash & 0x7FFFFFFF) % partitions for hash in hashes], strict=True)
    return found


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


def _murmur2_of_each(keys: Sequence[bytes], size: int) -> tuple[int, ...]:
    """`murmur2` of keys of the same size, step by step for all at once.

    Each key has 64 bits of one long integer, its lane: enough for the product of two numbers of 32 bits, so that lanes
    do not touch each other. What is above a lane's lower 32 bits is cleared after each step.
    """
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * len(keys), "little")
    low = ones * _BITS
    padding = bytes(-size % 8)
    both = memoryview(padding.join(keys) + padding).cast("Q")  # two words of a key
    width = (size + 7) // 8
    h = ones * (_SEED ^ size)
    for at in range(0, size, 4):
        k = int.from_bytes(both[at // 8 :: width].tobytes(), "little") >> (at % 8 * 8) & low
        if size - at < 4:
            h = (h ^ k) * _M & low
        else:
            k = k * _M & low
            h = (h * _M ^ ((k ^ k >> 24) & low) * _M) & low
    h = (h ^ (h >> 13 & low)) * _M & low
    return unpack(f"<{len(keys)}Q", ((h ^ h >> 15) & low).to_bytes(8 * len(keys), "little"))
