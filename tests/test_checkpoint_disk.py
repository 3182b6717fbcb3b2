"""A store on a disk that is full says so, and holds what it held before."""

import subprocess
import sys
from pathlib import Path

from streamlens.checkpoint.store import RocksStore

FILLS_UP = """
import resource, sys
from pathlib import Path
from streamlens.checkpoint.store import RocksStore
from streamlens.errors import DiskFailed
store = RocksStore(Path(sys.argv[1]))
store.write({b"before": b"1"})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.write({b"after": bytes(200_000)})
except DiskFailed as error:
    print(error)
"""


def test_a_write_that_the_disk_refuses_names_the_directory_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pending" / "2"
    done = subprocess.run([sys.executable, "-c", FILLS_UP, path], capture_output=True, text=True)
    assert done.stdout.startswith(f"{path}: the disk can't be used, is it full? IO error: "), done.stderr
    store = RocksStore(path)
    assert (store.get(b"before"), store.get(b"after")) == (b"1", None)
    store.close()
