"""Where a unit's state rests between epochs: an ordered map of bytes with atomic batches, in RocksDB.

It is a copy: what is durable is the changelog. So batches are not synced, and a store that is gone, wiped or old is
brought up to date from the changelog.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from streamlens.errors import Damaged, DiskFailed, StreamLensError, Unavailable


class Store(Protocol):
    """An ordered map from bytes to bytes."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries with low <= key < high in order. Entries written meanwhile may or may not be seen."""

    def snapshot(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries as of this call, in order, whatever is written while they are read."""

    def clear(self) -> None:
        """Forget everything."""

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """All of the changes or none of them, also after a kill; None deletes."""

    def close(self) -> None: ...


class Shared:
    """What the stores of one process share, so that memory does not grow with the number of partitions."""

    def __init__(self, bytes_at_most: int = 160 << 20) -> None:
        self.cache = Cache(bytes_at_most)
        # What the write buffers take is taken from the cache.
        self.write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(bytes_at_most, False, self.cache)


class RocksStore:
    """A `Store` in one RocksDB directory.

    Raises `Damaged` or `DiskFailed` naming the directory, and `Unavailable` when another process has it open.
    """

    def __init__(self, path: Path, shared: Shared | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._cleared = path.with_name(f"{path.name}.cleared")
        shutil.rmtree(self._cleared, ignore_errors=True)
        self._shared = shared or Shared()
        self._open()

    def _open(self) -> None:
        try:
            self._db: Any = Rdict(str(self._path), _options(self._shared))
        except Exception as error:  # rocksdict raises plain Exception for everything
            if "lock hold by current process" in str(error) or "While lock file" in str(error):
                raise Unavailable(f"{self._path} is open in another process: stop that one") from error
            raise self._failed(error) from error

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._failed(error) from error
        return value

    def scan(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        options = ReadOptions()
        options.set_iterate_upper_bound(high)
        return self._read(self._db.iter(options), low)

    def snapshot(self) -> Iterator[tuple[bytes, bytes]]:
        return self._read(self._db.iter(), b"")  # RocksDB's iterators see the moment of their making

    def _read(self, entries: Any, low: bytes) -> Iterator[tuple[bytes, bytes]]:
        entries.seek(low)
        while entries.valid():
            yield entries.key(), entries.value()
            entries.next()
        try:
            entries.status()
        except Exception as error:
            raise self._failed(error) from error

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in changes.items():
            if value is None:
                delete(key)
            else:
                put(key, value)
        try:
            self._db.write(batch)
        except Exception as error:
            raise self._failed(error) from error

    def clear(self) -> None:
        self._db.close()
        self._path.rename(self._cleared)  # At once: RocksDB refuses what a kill leaves of a directory half deleted.
        shutil.rmtree(self._cleared)
        self._open()

    def close(self) -> None:
        self._db.close()

    def _failed(self, error: Exception) -> StreamLensError:
        text = str(error)
        if text.startswith("IO error") and "No such file" not in text:
            return DiskFailed(f"{self._path}: the disk can't be used, is it full? {text}")
        return Damaged(
            f"{self._path}: RocksDB can't be used: {text}. It is a copy: stop StreamLens, delete this directory, and"
            " the next start restores it from the changelog"
        )


def _options(shared: Shared) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    # The default silently drops what follows a flipped byte in the middle of the write-ahead log.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_write_buffer_manager(shared.write_buffers)
    # Small enough for the processor's caches: twice as fast to write as with 32 MiB, a quarter faster than 8.
    options.set_write_buffer_size(4 << 20)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    options.set_compression_type(DBCompressionType.lz4())
    # Most lookups are of request ids never seen before: bloom filters on tables and memtable answer them.
    # The tables' are kept beside the block cache, 10 bits an entry: in it they would be read again for each lookup
    # as soon as they do not fit.
    options.set_memtable_prefix_bloom_ratio(0.02)
    options.set_memtable_whole_key_filtering(True)
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    table.set_block_cache(shared.cache)
    table.set_cache_index_and_filter_blocks(False)
    options.set_block_based_table_factory(table)
    return options
