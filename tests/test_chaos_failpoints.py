"""The chaos suite's failpoints are where they say: a name that moved would silently never be struck."""

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.failpoints import KILL, STEPS, VARIABLE, found, spell
from process_server import environ


@pytest.mark.parametrize("name", STEPS)
def test_a_step_names_something_that_can_be_called(name: str) -> None:
    owner, attribute = found(STEPS[name])
    assert callable(getattr(owner, attribute))


PASSES = """
import asyncio
from chaos.program import prepare
prepare()
from streamlens.checkpoint.appends import Appends
def outputs(number):
    print("publishes", number, flush=True)
    yield from ()
async def passes():
    for number in (1, 2, 3):
        await Appends(None, "changelog").publish(outputs(number))
asyncio.run(passes())
"""


@pytest.mark.parametrize(("name", "published"), [("before publishing", 1), ("published", 2)])
def test_it_strikes_at_the_second_pass(name: str, published: int) -> None:
    env = environ(PYTHONPATH=str(Path(__file__).parent), **{VARIABLE: spell(name, KILL, 2)})
    ended = subprocess.run([sys.executable, "-c", PASSES], env=env, capture_output=True, text=True)
    assert ended.returncode == -KILL, ended.stderr
    assert ended.stdout.splitlines() == [f"publishes {number + 1}" for number in range(published)]
