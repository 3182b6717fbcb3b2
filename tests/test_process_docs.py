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


def lasting(answers: str) -> list[Any]:
    """The answers without what is another each time."""
    found = parsed(answers)
    for answer in found:
        for row in next(iter(answer.values())):
            for name in OF_THE_MOMENT:
                row.pop(name, None)
    return found


def test_the_page_shows_what_is_answered(server: Server) -> None:
    typed(server, blocks("Sending", "sh"))
    asking, shown = blocks("Asking", "sh"), lasting(blocks("Asking", "json"))
    assert at_last(lambda: lasting(typed(server, asking)), shown) == shown
    assert server.stop() == 0
