"""The framing of the changelog: what is cut into parts comes back whole, and nothing else does."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlens.checkpoint.frames import (
    Change,
    Header,
    Lineage,
    Part,
    Version,
    epoch_records,
    is_takeover,
    takeover_record,
)
from streamlens.errors import Damaged

HEADER = Header({"llm.calls": 7}, 0, b"watermark")
CHANGES: list[Change] = [(b"a", b"1"), (b"b", None), (b"c", bytes(range(256)))]


def content(version: Version) -> list[Change]:
    """Another one for each version, but of the same size."""
    return [(b"version", bytes(version)), *CHANGES]


def frame(version: Version) -> list[bytes]:
    return epoch_records(version, HEADER, content(version), part_bytes=40)


def complete(records: list[bytes], generation: int = 0, epoch: int = 0) -> list[tuple[int, Version, int]]:
    """Read these records from offset 1 on; returns (offset of the last part, version, `next`) of each epoch found."""
    lineage = Lineage(generation, epoch)
    fed = [(offset, lineage.feed(offset, record)) for offset, record in enumerate(records, 1)]
    assert all(e.changes == content((e.generation, e.epoch)) for _, e in fed if e is not None)
    return [(offset, (e.generation, e.epoch), e.next) for offset, e in fed if e is not None]


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(
    st.dictionaries(st.text(max_size=9), st.integers(0, 2**62), max_size=3),
    st.binary(max_size=20),
    st.lists(st.tuples(st.binary(max_size=9), st.none() | st.binary(max_size=99)), max_size=9),
    st.integers(1, 300),
)
def test_an_epoch_comes_back_whole_in_order(
    offsets: dict[str, int], logic: bytes, changes: list[Change], part_bytes: int
) -> None:
    header = Header(offsets, 3, logic)
    records = epoch_records((5, 4), header, changes, part_bytes)
    lineage = Lineage(5, 3)
    *none, epoch = [lineage.feed(offset, record) for offset, record in enumerate(records, 6)]
    assert not any(none)
    assert epoch == (5, 4, 6 + len(records), header, changes)
    assert (lineage.generation, lineage.epoch) == (5, 4)


def test_no_part_holds_more_than_it_may() -> None:
    records = epoch_records((0, 1), HEADER, [(b"key", bytes(1000))], 100)
    payloads = [msgspec.msgpack.decode(record, type=Part).payload for record in records]
    assert [len(payload) for payload in payloads[:-1]] == [100] * 10
    assert 0 < len(payloads[-1]) <= 100


def test_an_epoch_without_changes_is_one_part() -> None:
    assert len(epoch_records((0, 1), HEADER, [])) == 1


ONE, TWO, TAKEOVER = frame((0, 1)), frame((0, 2)), takeover_record("worker", 1)
assert len(ONE) == len(TWO) >= 4


@pytest.mark.parametrize(
    ("records", "epochs"),
    [
        pytest.param(ONE, [(len(ONE), (0, 1), len(ONE) + 1)], id="all parts"),
        pytest.param(ONE[:-1], [], id="the last part is missing"),
        pytest.param(ONE[1:], [], id="the first part is missing"),
        pytest.param([*ONE[:1], *ONE[2:]], [], id="a part in the middle is missing"),
        pytest.param([ONE[1], ONE[0], *ONE[2:]], [], id="two parts are swapped"),
        pytest.param([ONE[0], *ONE], [(len(ONE) + 1, (0, 1), len(ONE) + 2)], id="the first part comes twice"),
        pytest.param([*ONE[:2], *ONE[1:]], [(len(ONE) + 1, (0, 1), len(ONE) + 2)], id="a later part comes twice"),
        pytest.param([*ONE[:2], *ONE], [(len(ONE) + 2, (0, 1), len(ONE) + 3)], id="a frame is begun, then sent again"),
        pytest.param([ONE[0], *TWO[1:]], [], id="a beginning does not fit another epoch's rest"),
        pytest.param([*ONE[:2], *TWO], [(len(TWO) + 2, (0, 2), len(TWO) + 3)], id="a frame follows an unfinished one"),
        pytest.param([*ONE[:-1], TAKEOVER, ONE[-1]], [], id="a takeover comes before the last part"),
        pytest.param([TAKEOVER, *ONE], [], id="a frame of an older generation"),
        pytest.param([TAKEOVER, *frame((1, 1))], [(len(ONE) + 1, (1, 1), len(ONE) + 2)], id="a frame of the new one"),
        pytest.param([ONE[0], TAKEOVER, *frame((2, 1))[1:]], [], id="a beginning does not fit a new generation's rest"),
        pytest.param(frame((9, 1)), [], id="a generation without its takeover"),
    ],
)
def test_only_complete_frames_of_the_generation_in_force_count(
    records: list[bytes], epochs: list[tuple[int, Version, int]]
) -> None:
    assert complete(records) == epochs


def test_void_parts_between_do_not_disturb() -> None:
    records = [part for own in frame((0, 1)) for part in (own, frame((5, 1))[0])]
    assert [version for _, version, _ in complete(records)] == [(0, 1)]


def test_a_takeover_is_known_from_a_part() -> None:
    assert is_takeover(TAKEOVER)
    assert not is_takeover(ONE[0])


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"garbage", id="not msgpack"),
        pytest.param(ONE[0][:-1], id="cut short"),
        pytest.param(msgspec.msgpack.encode(["X", 1]), id="an unknown kind"),
        pytest.param(msgspec.msgpack.encode(["D", 0, 1, 1, 1, b"not a body"]), id="a body that is none"),
    ],
)
def test_a_record_that_is_none_of_ours_stops_the_reader(garbage: bytes) -> None:
    with pytest.raises(Damaged, match="changelog record 8 "):
        Lineage(0, 0).feed(8, garbage)
