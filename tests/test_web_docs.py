"""The commands that the API page shows for sending, run as typed; only the port is another."""

import asyncio
import json
import re
import time
from pathlib import Path

from web_server import serving

PAGE = (Path(__file__).parents[1] / "docs/api.md").read_text("utf-8")
WRITTEN = [
    ("/v1/llm/request", "llm.requests", {"request_id": "q-1", "prompt_tokens": 1200}),
    ("/v1/llm/response", "llm.responses", {"request_id": "q-1", "completion_tokens": 310}),
    ("/v1/llm/call", "llm.calls", {"request_id": "q-2", "error_type": "rate_limit"}),
    ("/v1/llm/events", "llm.requests", {"request_id": "q-3", "route": "search"}),
    ("/v1/llm/events", "llm.responses", {"request_id": "q-3", "latency_ms": 310}),
    ("/api/v1/ingest/llm", "llm.calls", {"tenant_id": "acme", "prompt_tokens": 9}),
    ("/v1/events", "llm.calls", {"request_id": "e-1", "model": "gpt-oss-1"}),
    ("/v1/services/events", "llm.calls", {"route": "checkout", "error_type": "server_error"}),
    ("/v1/evaluations", "llm.evaluations", {"request_id": "r-1", "score": 0.92}),
    ("/api/v1/ingest/app", "streamlens.applogs", {"message": "slow"}),
    ("/api/v1/ingest/metrics", "streamlens.sysmetrics", {"value": 0.93}),
]
"""Where each event is sent to, the topic in which it lies then, and members of it."""


def blocks(section: str, language: str) -> str:
    """The code blocks of a language in a section of the page, one after the other."""
    return "".join(re.findall(rf"(?s)```{language}\n(.*?)```", PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]))


async def test_what_the_page_shows_is_accepted_and_written(tmp_path: Path) -> None:
    commands = blocks("Sending", "sh")
    paths = re.findall(r":8080(\S+)", commands)
    assert paths == list(dict.fromkeys(path for path, _, _ in WRITTEN))
    async with serving(tmp_path, clock_us=lambda: time.time_ns() // 1000) as site:
        script = commands.replace(":8080", f":{site.port}")
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script), stdout=asyncio.subprocess.PIPE
        )
        answers, _ = await asyncio.wait_for(shell.communicate(), 30)
        written = [(tp.topic, json.loads(value)) for tp, values in site.written().items() for value in values]
    assert shell.returncode == 0
    accepted = [answer.get("accepted", 1) for answer in map(json.loads, answers.splitlines())]
    assert (len(accepted), sum(accepted)) == (len(paths), len(WRITTEN)), answers
    for _, topic, members in WRITTEN:
        (found,) = [value for at, value in written if at == topic and members.items() <= value.items()]
        assert found["sender"].startswith("curl/")
    assert len(written) == len(WRITTEN)
