"""Which partition a key belongs to: Kafka's default partitioner, so that producers in any language agree with us."""

from murmurhash2 import murmurhash2

_SEED = 0x9747B28C


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, 0 to `partitions` - 1, that Kafka's Java client chooses: `toPositive(murmur2(key)) % n`."""
    return int(murmurhash2(key, _SEED) & 0x7FFFFFFF) % partitions
