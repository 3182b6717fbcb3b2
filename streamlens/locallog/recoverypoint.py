"""The recovery point: up to which write the log was synced, in a small file of its own.

RocksDB takes a damaged length near the end of its write-ahead log for a torn write, and a missing write-ahead log for
an empty one: it opens without the records that followed. This number tells that there were some.
"""

import os
from pathlib import Path
from typing import Any

from rocksdict import WriteBatch

from streamlens.errors import Damaged
from streamlens.locallog.database import explained, open_database

FILE = "RECOVERY_POINT"

_KEY = b"n"
_DIGITS = 20
_ATTEMPTS = 3


class RecoveryPoint:
    """Each write carries its number in the database; the number of the last synced one is written over the file.

    The file is not synced. After a power cut it may lag behind, but it is never ahead of what a sync made durable.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
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

    def open_reader(self) -> Any:
        """The database, opened for reading and proved to hold all that was synced; raises `Damaged` if it does not.

        Nothing is changed by this. Opening for writing drops what it takes for a torn write, so look here before.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return self._proved_reader()
            except Damaged:
                # A writer beside us may have replaced a file while we opened; damage stays.
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _proved_reader(self) -> Any:
        synced = self.read()  # before the database: a writer moves that first, then this
        if synced and not (self._directory / "CURRENT").exists():
            raise Damaged(f"the log in {self._directory} has lost its file CURRENT. Restore it from a copy")
        db = open_database(self._directory, read_only=True)
        try:
            found = _number_in(db)
        except Exception as error:  # rocksdict raises the bare class
            db.close()
            raise explained(self._directory, error) from error
        if found < synced:
            db.close()
            raise Damaged(
                f"the log in {self._directory} was synced up to write {synced}, but ends at write {found}: the end of"
                " its write-ahead log is damaged or missing. Restore it from a copy, or remove"
                f" {self._path} to go on without what is lost"
            )
        return db

    def load(self, db: Any) -> None:
        """Go on from the number in `db`."""
        self._number = _number_in(db)

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


def _number_in(db: Any) -> int:
    return int.from_bytes(db.get(_KEY, b""))
