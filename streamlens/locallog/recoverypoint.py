"""The recovery point: up to which write the log was synced, in a small file of its own.

RocksDB takes a damaged length near the end of its write-ahead log for a torn write, and a missing write-ahead log for
an empty one: it opens without the records that followed. This number tells that there were some.
"""

import os
from pathlib import Path
from typing import Any

from rocksdict import WriteBatch

from streamlens.errors import Damaged

FILE = "RECOVERY_POINT"

_KEY = b"n"
_DIGITS = 20


class RecoveryPoint:
    """Each write carries its number in the database; the number of the last synced one is written over the file.

    The file is not synced. After a power cut it may lag behind, but it is never ahead of what a sync made durable.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._descriptor: int | None = None
        self._number = 0

    def read(self) -> int:
        """The number in the file; 0 where there is none. Raises `Damaged` when it is no number."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return 0
        if len(text) != _DIGITS or not text.isdigit():
            raise Damaged(f"{self._path} is damaged. Remove it if the log beside it is whole")
        return int(text)

    def load(self, db: Any, synced: int) -> None:
        """Go on from the number in `db`. Raises `Damaged` below `synced`, which was read before `db` was opened."""
        self._number = int.from_bytes(db.get(_KEY, b""))
        if self._number < synced:
            raise Damaged(
                f"the log in {self._path.parent} was synced up to write {synced}, but ends at write {self._number}:"
                " the end of its write-ahead log is damaged or missing. Restore it from a copy, or remove"
                f" {self._path} to go on without what is lost"
            )

    def stamp(self, write: WriteBatch) -> int:
        """Give `write` the next number."""
        self._number += 1
        write.put(_KEY, self._number.to_bytes(8))
        return self._number

    def move(self, number: int) -> None:
        """The write of this number, and all before it, are synced."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(self._descriptor, b"%0*d" % (_DIGITS, number), 0)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
