"""What a worker of the suite runs: `streamlens`, with small parts, and snapshots every few seconds instead of minutes.

By its environment also with a safeguard taken out (`CHAOS_MUTANT`), armed to strike itself (`CHAOS_FAILPOINT`), or on a
disk where no file grows beyond a limit (`CHAOS_FILE_BYTES`).
"""

import os
import resource
from typing import Any

import uvloop

from chaos import loops
from streamlens.checkpoint import unit
from streamlens.checkpoint.stage import Stage
from streamlens.checkpoint.unit import Unit
from streamlens.cli import main

SNAPSHOT_MIN_BYTES = 128 << 10
SNAPSHOT_PIECE_BYTES = 128 << 10
PART_BYTES = 64 << 10


def prepare() -> None:
    """Patch what the environment names, before anything of StreamLens runs."""
    _defaults(Stage)["snapshot_min_bytes"] = SNAPSHOT_MIN_BYTES
    _defaults(Unit)["part_bytes"] = PART_BYTES
    unit.SNAPSHOT_PIECE_BYTES = SNAPSHOT_PIECE_BYTES
    uvloop.EventLoopPolicy = loops.Policy  # type: ignore[misc]
    if mutant := os.environ.get("CHAOS_MUTANT"):
        from chaos.mutants import apply

        apply(mutant)
    if failpoint := os.environ.get("CHAOS_FAILPOINT"):
        from chaos.failpoints import arm

        arm(failpoint)
    if most := os.environ.get("CHAOS_FILE_BYTES"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))


def _defaults(which: type) -> dict[str, Any]:
    defaults: dict[str, Any] = vars(which)["__init__"].__kwdefaults__
    return defaults


if __name__ == "__main__":
    prepare()
    main(prog_name="streamlens")
