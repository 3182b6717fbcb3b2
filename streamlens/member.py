"""Who this worker is in its consumer group: an id that survives restarts, so that one needs no rebalance."""

import fcntl
import os
import uuid
from pathlib import Path

from streamlens.errors import Unavailable


class Member:
    """The id in a data directory, held under a lock: two live workers of one id would rob each other for ever."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        path = data_dir / "member"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Unavailable(f"{data_dir} is used by another worker: give each one its own --data-dir") from None
        self.id = os.read(self._file, 64).decode().strip()
        if not self.id:
            self.id = uuid.uuid4().hex
            os.write(self._file, self.id.encode() + b"\n")
            os.fsync(self._file)
