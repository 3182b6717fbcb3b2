"""Damaged files of the local log: refused by name, or read in full; never read short or wrong."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rocksdict import Options, Rdict

from log_contract import numbered, read_all
from streamlens.errors import BadSetting, Damaged
from streamlens.locallog import LocalLog
from streamlens.locallog.batch import batch_key, partition_prefix
from streamlens.locallog.catalog import Marker
from streamlens.locallog.recoverypoint import FILE
from streamlens.log import TP, Record, TopicSpec

A = TP("a", 0)
VALUES = [b"%05d " % i + bytes([i % 251]) * 100 for i in range(2000)]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A log of 40 batches of 50 records as a kill leaves it: all of it still in the write-ahead log."""
    path = tmp_path / "killed"
    log = LocalLog.open(tmp_path / "log")
    await log.create_topics([TopicSpec("a", 1)])
    for i in range(0, len(VALUES), 50):
        await log.append({A: [Record(None, value) for value in VALUES[i : i + 50]]})
    shutil.copytree(tmp_path / "log", path)
    await log.stop()
    return path


def move_to_tables(path: Path) -> None:
    """Opening moves what the write-ahead log holds to table and blob files."""
    LocalLog.open(path).close()


def the_file(path: Path, suffix: str) -> Path:
    return max(path.glob(f"*{suffix}"), key=lambda f: f.stat().st_size)


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)


async def read_back(path: Path) -> list[bytes]:
    log = LocalLog.open(path)
    try:
        return await read_all(log, A)
    finally:
        log.close()


def raw(path: Path) -> Rdict:
    return Rdict(str(path), Options(raw_mode=True))


def places(size: int) -> Iterator[int]:
    yield from range(size // 20, size, size // 10)


async def test_undamaged_it_reads(path: Path) -> None:
    assert await read_back(path) == VALUES
    move_to_tables(path)
    assert await read_back(path) == VALUES
    assert the_file(path, ".blob").stat().st_size > 10_000, "these tests need a blob file"


@pytest.mark.parametrize("recovery_point", [True, False], ids=["synced", "without a recovery point"])
async def test_a_flipped_byte_in_the_write_ahead_log_is_refused(path: Path, recovery_point: bool) -> None:
    if not recovery_point:  # as in a log that leaves it to the kernel when to sync
        (path / FILE).unlink()
    file = the_file(path, ".log")
    whole = file.read_bytes()
    for at in places(len(whole)):
        flip(file, at)
        with pytest.raises(Damaged, match=str(path)):
            await read_back(path)
        assert file.read_bytes() != whole, "the damaged file is left as it is"
        file.write_bytes(whole)
    assert await read_back(path) == VALUES


@pytest.mark.parametrize("suffix", [".blob", ".sst"])
async def test_a_flipped_byte_in_a_table_or_blob_is_refused_or_harmless(path: Path, suffix: str) -> None:
    move_to_tables(path)
    file = the_file(path, suffix)
    whole = file.read_bytes()
    refused = 0
    for at in places(len(whole)):
        flip(file, at)
        try:
            assert await read_back(path) == VALUES, f"byte {at} of {file.name}"
        except Damaged as damaged:
            refused += 1
            assert str(path) in str(damaged)
        file.write_bytes(whole)
    assert refused > 2


@pytest.mark.parametrize("suffix", [".blob", ".sst"])
async def test_a_missing_file_is_refused_by_name(path: Path, suffix: str) -> None:
    move_to_tables(path)
    file = the_file(path, suffix)
    file.unlink()
    with pytest.raises(Damaged, match=str(path)) as refused:
        await read_back(path)
    assert file.name in str(refused.value)


async def test_a_damaged_length_near_the_end_is_refused(path: Path) -> None:
    """RocksDB alone takes it for a torn write and drops what follows."""
    file = the_file(path, ".log")
    whole = file.read_bytes()
    lengths = [at + 5 for at in starts_of_wal_records(whole) if at > len(whole) - (16 << 10)]
    assert len(lengths) > 1
    for at in lengths:
        flip(file, at)
        with pytest.raises(Damaged, match=str(path)):
            await read_back(path)
        assert file.exists(), "what may still be rescued is left alone"
        file.write_bytes(whole)
    assert await read_back(path) == VALUES


def starts_of_wal_records(wal: bytes) -> Iterator[int]:
    """Each has a checksum (4 bytes), a length (2), a type (1) and the data; none crosses a block of 32 KiB."""
    at = 0
    while at < len(wal):
        left = (32 << 10) - at % (32 << 10)
        if left < 7:
            at += left
            continue
        yield at
        at += 7 + int.from_bytes(wal[at + 4 : at + 6], "little")


async def test_a_missing_write_ahead_log_is_refused(path: Path) -> None:
    the_file(path, ".log").unlink()
    with pytest.raises(Damaged, match="damaged or missing"):
        LocalLog.open(path)
    (path / FILE).unlink()
    log = LocalLog.open(path)  # the operator accepts the loss
    assert log.topics() == {}
    log.close()


@pytest.mark.parametrize("cut", [1, 7, 200, 4000], ids=lambda n: f"{n} bytes")
async def test_a_torn_write_opens_and_a_torn_acknowledged_one_is_refused(tmp_path: Path, cut: int) -> None:
    log = LocalLog.open(tmp_path / "log")
    await log.create_topics([TopicSpec("a", 1)])
    await log.append({A: numbered(0, 50)})
    before = (tmp_path / "log" / FILE).read_bytes()
    await log.append({A: [Record(None, value) for value in VALUES[:50]]})
    shutil.copytree(tmp_path / "log", tmp_path / "killed")
    await log.stop()
    file = the_file(tmp_path / "killed", ".log")
    file.write_bytes(file.read_bytes()[:-cut])

    with pytest.raises(Damaged, match="was synced up to"):
        LocalLog.open(tmp_path / "killed")

    (tmp_path / "killed" / FILE).write_bytes(before)  # as a power cut before the second acknowledgement leaves it
    log = LocalLog.open(tmp_path / "killed")
    assert await read_all(log, A) == [r.value for r in numbered(0, 50)]
    assert await log.append({A: numbered(50, 60)}) == {A: 50}
    await log.stop()


async def test_a_missing_root_file_is_refused_and_nothing_is_overwritten(path: Path) -> None:
    """RocksDB alone would start an empty database over it."""
    before = sorted(file.name for file in path.iterdir() if file.name != "CURRENT")
    (path / "CURRENT").unlink()
    with pytest.raises(Damaged, match="lost its file CURRENT"):
        LocalLog.open(path)
    assert sorted(file.name for file in path.iterdir()) == before


async def test_a_damaged_recovery_point_is_refused_by_name(path: Path) -> None:
    flip(path / FILE, 0)
    with pytest.raises(Damaged, match=FILE):
        LocalLog.open(path)


@pytest.mark.parametrize("reopened_first", [False, True])
async def test_a_batch_that_is_missing_is_refused(path: Path, reopened_first: bool) -> None:
    if reopened_first:
        move_to_tables(path)
    db = raw(path)
    del db[batch_key(partition_prefix(1, 0), 1000)]
    db.close()
    log = LocalLog.open(path)
    assert log.end_offset(A) == 2000
    with pytest.raises(Damaged, match="lacks the records 1000 to 1049"):
        await read_all(log, A, 900)
    with pytest.raises(Damaged):
        log.read_now(A, 1000)
    assert await read_all(log, A, 1050) == VALUES[1050:]
    log.close()


@pytest.mark.parametrize("at", [0, 5, 30, -1])
async def test_a_batch_with_a_wrong_byte_is_refused(path: Path, at: int) -> None:
    """Of what lies below the checksums of RocksDB: the value was wrong when it was written."""
    db = raw(path)
    key = batch_key(partition_prefix(1, 0), 1000)
    value = bytearray(db[key] or b"")
    value[at] ^= 1
    db[key] = bytes(value)
    db.close()
    log = LocalLog.open(path)
    with pytest.raises(Damaged, match="checksum"):
        log.read_now(A, 1020)
    log.close()


async def test_a_batch_in_the_wrong_place_is_refused(path: Path) -> None:
    db = raw(path)
    db[batch_key(partition_prefix(1, 0), 1000)] = db[batch_key(partition_prefix(1, 0), 1050)]
    db.close()
    with pytest.raises(Damaged, match="checksum"):
        await read_back(path)


async def test_a_lost_first_batch_is_refused_at_opening(path: Path) -> None:
    db = raw(path)
    del db[batch_key(partition_prefix(1, 0), 0)]
    db.close()
    with pytest.raises(Damaged, match="does not hold its first record 0"):
        LocalLog.open(path)


async def test_a_foreign_database_is_refused(path: Path, tmp_path: Path) -> None:
    db = raw(tmp_path / "foreign")
    db[b"x"] = b"y"
    db.close()
    with pytest.raises(Damaged, match="no format marker"):
        LocalLog.open(tmp_path / "foreign")


async def test_a_newer_format_is_refused(path: Path) -> None:
    db = raw(path)
    db[b"f"] = msgspec.msgpack.encode(Marker(2, "0" * 32))
    db.close()
    with pytest.raises(BadSetting, match="has format 2, but this version reads 1"):
        LocalLog.open(path)
