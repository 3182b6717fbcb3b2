"""Faust's command line on StreamLens' app, as a process. For the tests."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from process_server import environ

FAUST = str(Path(sys.executable).with_name("faust"))
APP = [FAUST, "-A", "streamlens.app"]


def faust(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with these settings alone."""
    return subprocess.run([*APP, *arguments], env=environ(**settings), capture_output=True, text=True, timeout=60)


def call(request_id: str) -> str:
    """A whole call of this moment, to be sent."""
    event = {"request_id": request_id, "tenant_id": "acme", "route": "chat", "model": "gpt-4o", "latency_ms": 120}
    return json.dumps(event | {"timestamp": datetime.now(UTC).isoformat()})
