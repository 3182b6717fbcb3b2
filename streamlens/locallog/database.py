"""The RocksDB below the local log: its options, opening it, and what its errors mean to the caller."""

import re
from pathlib import Path
from typing import Any

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
)

from streamlens.errors import Damaged, StreamLensError, Unavailable

WRITE_BUFFER_BYTES = 16 << 20
"""One memtable. With the three that may exist and the block cache the log stays well below 100 MB."""

_DATA_FILE = re.compile(r"[^\s:'\"]*\d{6}\.(?:sst|blob|log)|[^\s:'\"]*MANIFEST-\d+")


def options() -> Options:
    """The options of the log's database."""
    o = Options(raw_mode=True)
    o.create_if_missing(True)
    # The default drops what follows a flipped byte in the write-ahead log without a word. This one refuses it, and
    # still opens a log whose last record was cut off by a crash.
    o.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    o.set_paranoid_checks(True)
    # Batches go to blob files: written once, never rewritten by compaction, which then moves only keys.
    o.set_enable_blob_files(True)
    o.set_min_blob_size(1 << 10)
    o.set_blob_file_size(64 << 20)
    # Garbage collection, which copies live blobs, stays off: retention deletes in the order of writing, so that whole
    # files become empty.
    # Events are JSON: lz4 makes them about a quarter for a few percent of one core, in background threads.
    o.set_compression_type(DBCompressionType.lz4())
    o.set_blob_compression_type(DBCompressionType.lz4())
    o.set_write_buffer_size(WRITE_BUFFER_BYTES)
    o.set_max_write_buffer_number(3)
    # Reads are sequential and the kernel caches files: a small cache for index blocks is enough.
    table = BlockBasedOptions()
    table.set_block_cache(Cache(8 << 20))
    o.set_block_based_table_factory(table)
    # Spread the kernel's write-back, so that a sync has little left to do.
    o.set_bytes_per_sync(1 << 20)
    o.set_wal_bytes_per_sync(1 << 20)
    o.set_max_background_jobs(2)
    # A long log has thousands of files, and 1,024 descriptors are the usual limit of a process.
    o.set_max_open_files(256)
    # RocksDB's own information log: small and few.
    o.set_max_log_file_size(1 << 20)
    o.set_keep_log_file_num(2)
    o.set_stats_dump_period_sec(0)
    return o


def open_database(path: Path, *, read_only: bool) -> Any:
    """Open, or create unless `read_only`, the database in the directory `path`.

    Raises `Unavailable` when another process has it open or it does not exist, `Damaged` when its files contradict
    each other.
    """
    if read_only and not (path / "CURRENT").exists():
        raise Unavailable(f"there is no log in {path}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        access = AccessType.read_only(False) if read_only else AccessType.read_write()
        return Rdict(str(path), options(), access_type=access)
    except Exception as error:  # rocksdict raises the bare class
        raise explained(path, error) from error


def explained(path: Path, error: Exception) -> StreamLensError:
    """What an error below the log means: `Damaged` to stop, `Unavailable` for a disk that is full or fails.

    rocksdict raises the bare `Exception` with RocksDB's text, so the text has to tell. Contradictions that we find
    ourselves come as `ValueError`. The message names the directory, and the file when RocksDB names it.
    """
    text = str(error)
    if "lock hold by current process" in text or "While lock file" in text:
        return Unavailable(
            f"the log in {path} is open in another process: stop that one, or give this one another data directory"
        )
    missing = "No such file" in text or "does not exist" in text
    if isinstance(error, ValueError) or text.startswith(("Corruption", "Invalid argument")) or missing:
        named = _DATA_FILE.search(text)
        where = f" (file {Path(named[0]).name})" if named else ""
        return Damaged(f"the log in {path} is damaged{where}: {text}. Restore it from a copy, or move it away")
    if type(error) is Exception:
        return Unavailable(f"the log in {path} can't be used: {text}")
    return StreamLensError(f"the log in {path} failed: {error!r}")
