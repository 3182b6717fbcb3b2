"""Programs of others that send to us, each in an environment of its own under `.exporters`, which make installs."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def installed(name: str) -> Path:
    """The directory of an environment: what `tests/exporters/<name>.txt` lists, or `node`."""
    # A make that runs these tests has told its children things that are not for this one.
    clean = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    made = subprocess.run(
        ["make", f".exporters/{name}/installed"], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=600
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / ".exporters" / name


def python(name: str) -> str:
    """The interpreter of an environment."""
    return str(installed(name) / "bin/python")


def node() -> tuple[list[str], Path]:
    """The command that runs a module from standard input, and the directory in which it finds the exporters."""
    return ["node", "--input-type=module", "-"], installed("node")
