"""Who this worker is in its consumer group: an id that survives restarts, so that one needs no rebalance."""

import fcntl
import os
import uuid
from pathlib import Path

from streamlens.errors import Unavailable


def member_id(data_dir: Path, named: str = "") -> str:
    """The id in a data directory, which is `named` from now on if that is given; made when there is none yet.

    A name that somebody gives outlives the directory: without it the group waits for a worker that has lost its disk.
    """
    path = data_dir / "member"
    known = path.read_text().strip() if path.exists() else ""
    if known and named in ("", known):
        return known
    data_dir.mkdir(parents=True, exist_ok=True)
    made = named or uuid.uuid4().hex
    path.write_text(made + "\n")  # the same file, which may be locked; one that a kill left empty is written again
    return made


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
