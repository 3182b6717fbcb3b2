"""Who this worker is in its consumer group: an id that survives restarts, so that one needs no rebalance."""

import fcntl
import os
import uuid
from pathlib import Path

from streamlens.errors import Unavailable


def member_id(data_dir: Path) -> str:
    """The id in a data directory; made when there is none yet."""
    path = data_dir / "member"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        data_dir.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".new")
        made.write_text(uuid.uuid4().hex + "\n")
        made.rename(path)  # whole or not at all, whatever is killed
        return path.read_text().strip()


def hold(data_dir: Path) -> int:
    """Lock the id for this process' life: two live workers of one id would rob each other for ever.

    Returns the file's descriptor, which holds the lock. Raises `Unavailable` when another worker has it.
    """
    file = os.open(data_dir / "member", os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise Unavailable(f"{data_dir} is used by another worker: give each one its own --data-dir") from None
    return file
