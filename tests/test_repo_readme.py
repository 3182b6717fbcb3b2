"""The session that the README shows, run as typed against a server; only the port is another."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from process_server import Server, environ, until

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
SECTION = README.split("\n## Try it\n")[1].split("\n## ")[0]


def block(language: str) -> str:
    """The one code block of a language in the section."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return str(found)


@pytest.fixture
def server(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "readme") as server:
        yield server.start()


def typed(server: Server, commands: str) -> str:
    """What a shell prints for `commands`."""
    assert ":8080" in commands
    script = commands.replace(":8080", f":{server.port}")
    shell = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environ(), stdout=subprocess.PIPE, timeout=60
    )
    assert shell.returncode == 0
    return shell.stdout.decode()


def parsed(text: str) -> list[Any]:
    """The JSON values in a text, one after the other."""
    values, rest, decoder = [], text.strip(), json.JSONDecoder()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].strip()
    return values


def without_time(values: list[Any]) -> list[Any]:
    for row in values[-1]["metrics"]:
        start, end = row.pop("window_start"), row.pop("window_end")
        assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:00Z", start) and start < end
        del row["revision"]  # a checkpoint may come between the two events' rows
    return values


def test_the_session_answers_what_the_readme_shows(server: Server) -> None:
    session, shown = block("sh"), without_time(parsed(block("json")))
    answers = parsed(typed(server, session))
    if answers[-1]["count"] == 0:  # the row comes within two seconds, unless this machine is very busy
        ask = "curl" + session.rpartition("\ncurl")[2]
        until(lambda: bool(parsed(typed(server, ask))[-1]["count"]), "the row of the README")
        answers = [*answers[:-1], *parsed(typed(server, ask))]
    assert without_time(answers) == shown
    assert server.stop() == 0
