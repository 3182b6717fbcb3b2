"""The store on disk: whole batches after a kill, damage refused, keys in order; and the layers of a state above it."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_truth import MemoryStore
from streamlens.checkpoint.state import State
from streamlens.checkpoint.store import RocksStore, Store
from streamlens.errors import Damaged, Unavailable

KEYS = [b"key%04d" % i for i in range(1000)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    opened = RocksStore(tmp_path / "store")
    yield opened
    opened.close()


# -- kills -----------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from streamlens.checkpoint.store import RocksStore

store, number = RocksStore(Path(sys.argv[1])), 0
while True:
    number += 1
    store.write({b"key%d" % key: b"%d" % number for key in range(200)})
    print(number, flush=True)
"""


def test_a_batch_is_whole_or_absent_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < 100:
            pass
        with pytest.raises(Unavailable, match="open in another process"):
            RocksStore(path)
        writer.kill()
        confirmed = max([100, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    store = RocksStore(path)
    values = {value for _, value in store.scan(b"", b"\xff")}
    store.close()
    assert len(values) == 1
    assert int(values.pop()) >= confirmed


@pytest.mark.parametrize("deleted_first", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_a_store_whose_clearing_was_killed_is_empty(
    tmp_path: Path, deleted_first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(directory: Path) -> None:
        for file in directory.glob(deleted_first):
            file.unlink()
        raise KeyboardInterrupt

    path = _filled(tmp_path, flushed=True)
    store = RocksStore(path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        store.clear()
    store = RocksStore(path)
    assert list(store.snapshot()) == []
    store.close()
    assert {each.name for each in tmp_path.iterdir()} == {"filled", "copy"}, "nothing is left lying about"


# -- damage ----------------------------------------------------------------------------------------------------------


def _flip(path: Path, position: float) -> None:
    """Flip one bit at this fraction of the file."""
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 16
    path.write_bytes(data)


def _filled(path: Path, flushed: bool) -> Path:
    """A copy of a store, as a kill leaves it: its batches in the write-ahead log, or flushed to a table."""
    store = RocksStore(path / "filled")
    for start in range(0, len(KEYS), 50):
        store.write({key: key * 9 for key in KEYS[start : start + 50]})
    if flushed:
        store._db.flush()
    copy = path / "copy"
    shutil.copytree(path / "filled", copy)
    store.close()
    return copy


def _scan(store: RocksStore) -> None:
    list(store.scan(b"", b"\xff"))


def _get(store: RocksStore) -> None:
    for key in KEYS:
        store.get(key)


@pytest.mark.parametrize("read", [_scan, _get])
@pytest.mark.parametrize("position", [0.05, 0.3, 0.6])
@pytest.mark.parametrize(
    ("pattern", "flushed"), [("0*.log", False), ("*.sst", True), ("MANIFEST-*", True), ("CURRENT", True)]
)
def test_a_flipped_bit_is_refused_by_name(
    pattern: str, flushed: bool, position: float, read: Callable[[RocksStore], None], tmp_path: Path
) -> None:
    path = _filled(tmp_path, flushed)
    _flip(next(path.glob(pattern)), position)
    with pytest.raises(Damaged, match=f"{path}: .*delete this directory"):
        read(RocksStore(path))


def test_what_the_end_of_the_write_ahead_log_loses_is_the_last_batches_whole(tmp_path: Path) -> None:
    """RocksDB can't tell a damaged length at the log's end from a write that a power cut tore.

    That is harmless here: the position is in the batch, so the changelog is read on from the batch before.
    """
    path = _filled(tmp_path, flushed=False)
    log = next(path.glob("0*.log"))
    log.write_bytes(log.read_bytes()[:-1])
    store = RocksStore(path)
    assert [key for key, _ in store.scan(b"", b"\xff")] == KEYS[:-50]
    store.close()


def test_a_cleared_store_is_empty_and_goes_on(store: RocksStore) -> None:
    store.write({b"a": b"1"})
    store.clear()
    assert list(store.scan(b"", b"\xff")) == []
    store.write({b"b": b"2"})
    assert list(store.scan(b"", b"\xff")) == [(b"b", b"2")]


def test_a_snapshot_sees_the_moment_of_its_making(store: RocksStore) -> None:
    store.write({b"a": b"1", b"b": b"2"})
    seen = store.snapshot()
    store.write({b"a": None, b"b": b"3", b"c": b"4"})
    assert list(seen) == [(b"a", b"1"), (b"b", b"2")]


def test_a_second_opener_in_this_process_is_refused(store: RocksStore, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=str(tmp_path / "store")):
        RocksStore(tmp_path / "store")
    store.write({b"a": b"1"})  # The first goes on.


# -- reads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        pytest.param(b"", b"\xff", [b"", b"\x00o", b"a", b"aa", b"b", b"\xfe"], id="all, by bytes, a prefix first"),
        pytest.param(b"a", b"b", [b"a", b"aa"], id="low is in, high is out"),
        pytest.param(b"aaa", b"b", [], id="none between"),
        pytest.param(b"b", b"a", [], id="high below low"),
        pytest.param(b"\x00o", b"\x00p", [b"\x00o"], id="the checkpoint's own"),
    ],
)
@pytest.mark.parametrize("kind", ["rocksdb", "memory"])
def test_a_scan_is_in_order(kind: str, low: bytes, high: bytes, found: list[bytes], tmp_path: Path) -> None:
    store: Store = RocksStore(tmp_path / "store") if kind == "rocksdb" else MemoryStore()
    store.write(dict.fromkeys((b"b", b"gone", b"aa", b"\xfe", b"\x00o", b"", b"a"), b"old"))
    store.write({b"gone": None, b"a": b"new", b"never": None})
    assert list(store.scan(low, high)) == [(key, b"new" if key == b"a" else b"old") for key in found]
    assert (store.get(b"a"), store.get(b"gone"), store.get(b"never")) == (b"new", None, None)
    store.close()


# -- the layers of a state -------------------------------------------------------------------------------------------

_key = st.sampled_from([b"a", b"aa", b"b", b"c", b"d"])
_step = st.tuples(st.sampled_from(["put", "put", "delete", "freeze", "write"]), _key, st.binary(max_size=2))


def test_a_state_reads_like_one_map(store: RocksStore) -> None:
    """Whatever is in the overlay, frozen or stored: `get` and `scan` see the latest value of each key."""

    @settings(max_examples=300, derandomize=True, database=None, deadline=None)
    @given(st.lists(_step, max_size=25), _key, _key)
    def run(steps: list[tuple[str, bytes, bytes]], low: bytes, high: bytes) -> None:
        store.write({key: None for key, _ in store.scan(b"", b"\xff")})
        state, model, frozen = State(store), dict[bytes, bytes](), dict[bytes, bytes | None]()
        for name, key, value in steps:
            if name == "put":
                state.put(key, value)
                model[key] = value
            elif name == "delete":
                state.delete(key)
                model.pop(key, None)
            elif name == "freeze" and not frozen:
                frozen = state.freeze()
                assert len(state) == 0
            elif name == "write":
                store.write(frozen)
                state.thaw()
                frozen = {}
            assert state.get(key) == model.get(key)
            assert list(state.scan(low, high)) == sorted(entry for entry in model.items() if low <= entry[0] < high)

    run()


def test_what_was_frozen_does_not_change_any_more(store: RocksStore) -> None:
    state = State(store)
    state.put(b"a", b"1")
    frozen = state.freeze()
    state.put(b"a", b"2")
    state.delete(b"b")
    assert frozen == {b"a": b"1"}
    with pytest.raises(AssertionError, match="one epoch at a time"):
        state.freeze()
