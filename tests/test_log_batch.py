"""How a batch is stored: it comes back as it was, any other bytes are refused, and it is cut to bounded parts."""

import pytest

from streamlens.locallog import batch
from streamlens.locallog.batch import MAX_BYTES, MAX_RECORDS

KEY = batch.batch_key(batch.partition_prefix(3, 1), 700)


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        pytest.param([b"v"], [b"k"], id="one"),
        pytest.param([b"", b"\xff\x00", b"x" * 70_000], [None, b"", b"k" * 300], id="empty, binary and long ones"),
        pytest.param([b"a", b"b"], [None, None], id="no keys at all"),
    ],
)
def test_a_batch_comes_back(values: list[bytes], keys: list[bytes | None]) -> None:
    stored = batch.unpack(KEY, batch.pack(KEY, values, keys, append_ms=123, position=456))
    assert (stored.first, stored.count, stored.next) == (700, len(values), 700 + len(values))
    assert (stored.append_ms, stored.position) == (123, 456)
    assert stored.values() == values
    assert stored.keys() == keys


def test_every_flipped_or_missing_byte_is_refused() -> None:
    raw = batch.pack(KEY, [b"some", b"values"], [b"k", None], append_ms=123, position=456)
    for at in range(len(raw)):
        wrong = bytearray(raw)
        wrong[at] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            batch.unpack(KEY, bytes(wrong))
        with pytest.raises(ValueError, match=r"checksum|shorter"):
            batch.unpack(KEY, raw[:at])


def test_a_batch_under_another_key_is_refused() -> None:
    raw = batch.pack(KEY, [b"v"], [None], append_ms=1, position=0)
    with pytest.raises(ValueError, match="checksum"):
        batch.unpack(batch.batch_key(batch.partition_prefix(3, 1), 701), raw)


def test_keys_sort_by_topic_partition_and_offset() -> None:
    places = [(1, 0, 0), (1, 0, 255), (1, 0, 256), (1, 2, 0), (1, 300, 1 << 40), (2, 0, 0), (256, 0, 0)]
    keys = [batch.batch_key(batch.partition_prefix(topic, partition), first) for topic, partition, first in places]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("sizes", "cuts"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([1] * MAX_RECORDS, [(0, MAX_RECORDS)], id="just as many as fit"),
        pytest.param([1] * (MAX_RECORDS + 1), [(0, MAX_RECORDS), (MAX_RECORDS, MAX_RECORDS + 1)], id="one more"),
        pytest.param([MAX_BYTES // 2] * 3, [(0, 2), (2, 3)], id="bytes decide"),
        pytest.param([1, MAX_BYTES * 2, 1], [(0, 1), (1, 2), (2, 3)], id="a large one stands alone"),
    ],
)
def test_cuts(sizes: list[int], cuts: list[tuple[int, int]]) -> None:
    assert list(batch.cuts([bytes(size) for size in sizes])) == cuts
