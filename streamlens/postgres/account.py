"""The system account that the embedded PostgreSQL runs as.

PostgreSQL refuses to run as root, so a StreamLens started by root (a container, a bare machine) needs another account.
"""

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

import structlog

log = structlog.get_logger()


class Account(NamedTuple):
    """Who owns the cluster's files and runs its processes."""

    uid: int
    gid: int


def cluster_account(data_dir: Path) -> Account | None:
    """The account to run the cluster in `data_dir` as; None: this process is not root and runs it as itself.

    A cluster that exists keeps its owner. A new one belongs to `postgres` where the system has that account, else to
    `nobody`: no account is ever created.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.exists() and (owner := data_dir.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def allow_search(account: Account, *paths: Path) -> None:
    """Let `account` pass through the parents of `paths`, and warn of each directory that this changes.

    It adds the search bit alone (nothing can be listed, a name must be known to be opened), only where it is missing.
    """
    for parent in {parent for path in paths for parent in path.parents}:
        status = parent.stat()
        if status.st_uid == account.uid or status.st_mode & stat.S_IXOTH:
            continue
        parent.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
        log.warning("postgres_search_allowed", directory=str(parent), why="PostgreSQL does not run as root")
