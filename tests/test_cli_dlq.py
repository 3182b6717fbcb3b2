"""`streamlens dlq` against real views: what it shows, what it sends, and how long it waits."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dlq_world import World, call, our_bug, world
from pipeline import SECOND
from streamlens.cli import dlq, main
from streamlens.log import TP, Record
from streamlens.postgres.store import PostgresStore
from streamlens.topics import CALLS
from web_server import Site, serving

__all__ = ["our_bug", "world"]


async def run(site: Site, *arguments: str) -> Result:
    url = f"http://127.0.0.1:{site.port}/"
    return await asyncio.to_thread(CliRunner().invoke, main, ["dlq", *arguments, "--url", url])


async def said(world: World, *arguments: str) -> str:
    world.pipeline.clock.us += SECOND
    result = await run(world.site, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


async def send(world: World, *events: bytes) -> None:
    """Each is a letter after the other, of one partition."""
    for raw in events:
        await world.pipeline.log.append({TP(CALLS, 0): [Record(None, raw)]})
        await world.settle()


async def test_nothing_of_a_sender_commands_the_terminal(world: World) -> None:
    await send(world, call("r0", tenant_id="ac\x1b[2Jme", latency_ms=-1), b"\x1b[2J")
    for arguments in (["list"], ["show", f"{CALLS}/0/0"], ["show", f"{CALLS}/0/1"]):
        shown = await said(world, *arguments)
        assert ("\x1b" in shown, "\N{REPLACEMENT CHARACTER}[2J" in shown) == (False, True)


async def test_a_list_is_selected_and_bounded(world: World) -> None:
    events = (call(f"r{number}", latency_ms=-1, tenant_id=f"t{number % 2}") for number in range(4))
    await send(world, *events)

    async def offsets(*arguments: str) -> list[int]:
        letters: list[dict[str, Any]] = json.loads(await said(world, "list", "--json", *arguments))["letters"]
        return [letter["offset"] for letter in letters]

    assert await offsets() == [3, 2, 1, 0]
    assert await offsets("--limit", "1") == [3]
    assert await offsets("--tenant", "t0", "--reason", "invalid", "--topic", CALLS) == [2, 0]
    assert await offsets("--to", "2026-01-01T00:00:00Z") == []
    assert await offsets("--from", "2026-01-01T00:00:00+01:00") == [3, 2, 1, 0]


async def test_a_replay_goes_through_all_batches_up_to_its_limit(
    world: World, our_bug: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(world, *(call(f"r{number}") for number in range(7)), b"{")
    our_bug.undo()
    monkeypatch.setattr(dlq, "_BATCH", 2)
    monkeypatch.setattr(dlq, "_SHOWN", 3)
    dry = await said(world, "replay", "--dry-run")
    assert [f"{CALLS}/0/{number}" in dry for number in range(4)] == [True, True, True, False]
    assert "and 5 more" in dry
    assert dry.splitlines()[-1].startswith("sent 7, late again 0, bad again 1,")
    assert len(json.loads(await said(world, "replay", "--dry-run", "--json"))["letters"]) == 8
    assert world.sent(CALLS) == 8, "nothing is sent"
    for limit, again, sent in ((["--limit", "3"], [], 3), ([], [], 4), ([], [], 0), (["--limit", "1"], ["--again"], 1)):
        counts = json.loads(await said(world, "replay", "--json", *limit, *again))
        assert (counts["sent"], counts["dry_run"]) == (sent, False)
    await world.settle()
    assert world.calls() == 7


@pytest.mark.parametrize("command", ["list", "replay"])
async def test_while_postgres_is_away_it_waits_and_then_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(dlq, "PATIENCE_S", 1.0)
    away = await PostgresStore.open("postgresql://nobody@127.0.0.1:1/nothing")
    async with serving(tmp_path, pool=away.pool) as site:
        result = await run(site, command)
    await away.close()
    assert (result.exit_code, "Postgres does not answer" in result.output) == (1, True)
    assert command == "list" or "until then: nothing. It can be repeated" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--reason", "bad"], "reason: not one of malformed, invalid, future, late"),
        (["list", "--from", "soon"], "from: not an RFC 3339 time"),
        (["show", "llm.calls/0/7"], "there is no such letter"),
        (["replay", "--topic", "other"], "topic: not one of"),
    ],
)
async def test_what_the_server_refuses_is_said(world: World, arguments: list[str], said: str) -> None:
    result = await run(world.site, *arguments)
    assert (result.exit_code, said in result.output) == (1, True), result.output
