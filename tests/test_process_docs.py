"""What the API page shows as sent and as answered, typed into a shell, on a whole process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from process_server import Server, at_last
from test_repo_readme import parsed, typed
from test_web_docs import blocks

OF_THE_MOMENT = ("window_start", "window_end", "timestamp", "at", "id", "revision")


@pytest.fixture
def server(scratch: Path, empty_dsn: str) -> Iterator[Server]:
    with Server(scratch / "docs", dsn=empty_dsn) as server:
        yield server.start()


def lasting(answers: str) -> dict[str, Any]:
    """By its first name, each answer without what is another each time."""
    found = {next(iter(answer)): answer for answer in parsed(answers)}
    for name, answer in found.items():
        for row in answer[name] if isinstance(answer[name], list) else ():
            for moment in OF_THE_MOMENT:
                row.pop(moment, None)
    return found


def test_the_page_shows_what_is_answered(server: Server) -> None:
    typed(server, blocks("Sending", "sh"))
    asking = "\n".join(line for line in blocks("Asking", "sh").splitlines() if " -o " not in line)
    shown = lasting(blocks("Asking", "json"))

    def seen() -> dict[str, Any]:
        answers = lasting(typed(server, asking))
        assert len(answers) == asking.count("curl"), "each is answered, and by another list"
        assert "title" not in answers, answers
        return {name: answers[name] for name in shown}

    assert at_last(seen, shown) == shown
    assert server.stop() == 0
