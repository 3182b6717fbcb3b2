"""How appends become Kafka's batches, and what each is told: tables of sizes in, batches and offsets out."""

import pytest

from streamlens.kafka.batches import Call, Part, cut, fit, fits, record_bytes
from streamlens.log import TP, UNKNOWN_OFFSET, Record

ANY = TP("t", 0)
LIMIT = 1064  # 1,000 bytes of records


def part(*sizes: int) -> Part:
    """A part with records that take these numbers of bytes in a batch."""
    return Call({ANY: [Record(None, bytes(size - 32)) for size in sizes]}).parts[ANY]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([[100], [200], [300]], [[100, 200, 300]]),
        ([[500], [500], [500]], [[500, 500], [500]]),
        ([[600], [300, 200], [400]], [[600], [300, 200, 400]]),
        ([[600, 600, 600]], [[600], [600], [600]]),
        ([[100], [500, 400, 300], [100]], [[100], [500, 400], [300], [100]]),
        ([[1000]], [[1000]]),
    ],
    ids=["share", "full", "never split what fits", "larger than a batch", "alone when split", "exactly full"],
)
async def test_cut(parts: list[list[int]], expected: list[list[int]]) -> None:
    batches = cut([part(*sizes) for sizes in parts], LIMIT)
    sizes = [[record_bytes(r) for p, begin, end in batch.pieces for r in p.records[begin:end]] for batch in batches]
    assert sizes == expected
    assert [batch.size for batch in batches] == [len(each) for each in expected]


@pytest.mark.parametrize(
    ("bases", "expected"),
    [
        ([10, 11, 13], [10, 11, 14]),
        ([10, 11, 20], [10, UNKNOWN_OFFSET, 21]),
        ([10, 15, 17], [10, 15, 18]),
        ([UNKNOWN_OFFSET, 11, 13], [UNKNOWN_OFFSET, 11, 14]),
        ([10, UNKNOWN_OFFSET, 13], [10, UNKNOWN_OFFSET, 14]),
        ([10, 11, UNKNOWN_OFFSET], [10, UNKNOWN_OFFSET, UNKNOWN_OFFSET]),
    ],
    ids=["all", "a gap inside", "a gap between", "the first unknown", "its begin unknown", "its end unknown"],
)
async def test_a_part_is_acknowledged_when_it_is_whole(bases: list[int], expected: list[int]) -> None:
    """One record; then three, in two batches; then one that shares nothing. The last batch is the third's alone."""
    first, split, last = part(100), part(500, 400, 500), part(900)
    batches = cut([first, split, last], LIMIT)
    assert [batch.size for batch in batches] == [1, 2, 1, 1]
    for batch, base in zip(batches, [*bases, bases[-1] if bases[-1] < 0 else bases[-1] + 1], strict=True):
        batch.settle(base)
    assert [p.offset for p in (first, split, last)] == expected


async def test_a_call_is_done_with_its_last_part() -> None:
    call = Call({TP("t", p): [Record(b"k", b"v")] * count for p, count in enumerate((1, 2, 0))})
    one, two = call.parts.values()
    two.settle(7, 1)
    one.settle(3, 1)
    assert not call.done.done()
    assert call.offsets() == {TP("t", 0): 3, TP("t", 1): UNKNOWN_OFFSET}
    two.settle(8, 1)
    assert call.done.done()
    assert call.offsets() == {TP("t", 0): 3, TP("t", 1): 7}


@pytest.mark.parametrize(
    ("sizes", "fitting"), [([1000], True), ([1001], False), ([600, 600], True), ([40, 1001], False)]
)
async def test_each_record_of_a_part_must_fit(sizes: list[int], fitting: bool) -> None:
    assert fit(part(*sizes), LIMIT) == fitting


def test_a_record_fits_by_its_upper_bound() -> None:
    assert fits(Record(b"k" * 100, bytes(804)), 1000)
    assert not fits(Record(b"k" * 100, bytes(805)), 1000)
