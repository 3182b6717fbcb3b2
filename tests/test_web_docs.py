"""The commands that the API page shows for sending, run as typed; only the port is another."""

import asyncio
import json
import re
import time
from pathlib import Path

from web_server import serving

PAGE = (Path(__file__).parents[1] / "docs/api.md").read_text("utf-8")
(COMMANDS,) = re.findall(r"(?s)```sh\n([^`]*curl .*?)```", PAGE)
WRITTEN = {
    "/api/v1/ingest/llm": ("llm.calls", {"tenant_id": "acme", "prompt_tokens": 9}),
    "/v1/events": ("llm.calls", {"request_id": "e-1", "model": "gpt-oss-1"}),
    "/v1/services/events": ("llm.calls", {"route": "checkout", "error_type": "server_error"}),
    "/v1/evaluations": ("llm.evaluations", {"request_id": "r-1", "score": 0.92}),
    "/api/v1/ingest/app": ("streamlens.applogs", {"message": "slow"}),
    "/api/v1/ingest/metrics": ("streamlens.sysmetrics", {"value": 0.93}),
}


async def test_what_the_page_shows_is_accepted_and_written(tmp_path: Path) -> None:
    async with serving(tmp_path, clock_us=lambda: time.time_ns() // 1000) as site:
        script = COMMANDS.replace(":8080", f":{site.port}")
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script), stdout=asyncio.subprocess.PIPE
        )
        answers, _ = await asyncio.wait_for(shell.communicate(), 30)
        written = [(tp.topic, json.loads(value)) for tp, values in site.written().items() for value in values]
    assert shell.returncode == 0
    assert [json.loads(line)["accepted"] for line in answers.splitlines()] == [1] * len(WRITTEN), answers
    assert re.findall(r":8080(\S+)", COMMANDS) == list(WRITTEN)
    for topic, members in WRITTEN.values():
        (found,) = [value for at, value in written if at == topic and members.items() <= value.items()]
        assert found["sender"].startswith("curl/")
    assert len(written) == len(WRITTEN)
