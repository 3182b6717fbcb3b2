"""`streamlens dlq`: the dead letters, asked for over HTTP from a process that runs."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import click

from streamlens.errors import BadSetting, Unavailable

LIST_EXAMPLE = """
\b
Examples:
  streamlens dlq list --reason invalid --from 2026-07-01T00:00:00Z
  streamlens dlq list --json --limit 10000
"""
REPLAY_EXAMPLE = """
\b
Examples:
  streamlens dlq replay --dry-run
  streamlens dlq replay --reason invalid --tenant acme --url http://10.0.0.7:8080
"""
PATIENCE_S = 30.0
"""So long a server may answer that it can't now."""
_BATCH = 200
_SHOWN = 20

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _where(command: _Command) -> _Command:
    """Options that say which process to ask, and how to show what it answers."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object."),
        click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="  [default: .streamlens]"),
        click.option("--url", help="Where StreamLens serves.  [default: what runs in the data directory]"),
    ):
        command = option(command)
    return command


def _which(command: _Command) -> _Command:
    """Options that select letters."""
    for option in (
        click.option("--to", metavar="TIME", help="Found before then."),
        click.option("--from", "from_", metavar="TIME", help="Found since: RFC 3339 with an offset, or epoch ms."),
        click.option("--topic", help="Of this topic only."),
        click.option("--tenant", help="Of this tenant only, as far as it is known."),
        click.option("--reason", help="Of this reason only, such as invalid or future."),
    ):
        command = option(command)
    return command


@click.group(epilog="Example: streamlens dlq list")
def dlq() -> None:
    """The dead letters: events that were taken and could not be counted, with the reason.

    What each reason means, and what to do, is in docs/operations.md.
    """


@dlq.command(name="list", epilog=LIST_EXAMPLE)
@_which
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="So many, the newest.")
@_where
def list_(limit: int, url: str | None, data_dir: Path | None, as_json: bool, **selected: str | None) -> None:
    """List letters, the newest first."""
    answer = _ask(_address(url, data_dir), "/v1/dlq", limit=limit, **_selection(selected))
    if as_json:
        click.echo(json.dumps(answer))
        return
    columns = ("letter", "found", "reason", "tenant", "field", "detail", "replayed")
    names = ("time", "reason", "tenant_id", "field", "detail", "replayed_at")
    _print(columns, [(_name(each), *(each[name] or "" for name in names)) for each in answer["letters"]])


@dlq.command(epilog="Example: streamlens dlq show llm.calls/2/1047")
@click.argument("letter", metavar="TOPIC/PARTITION/OFFSET")
@_where
def show(letter: str, url: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Show one letter with its event, by the name that `list` gives."""
    if letter.count("/") != 2:
        raise click.BadParameter("a letter's name is TOPIC/PARTITION/OFFSET", param_hint="TOPIC/PARTITION/OFFSET")
    answer = _ask(_address(url, data_dir), f"/v1/dlq/{quote(letter)}")
    if as_json:
        click.echo(json.dumps(answer))
        return
    value = answer.pop("value")
    for name, each in answer.items():
        click.echo(f"{name:12} {'' if each is None else _harmless(str(each))}")
    click.echo(_harmless(value))


@dlq.command(epilog=REPLAY_EXAMPLE)
@_which
@click.option("--limit", type=click.IntRange(1), help="Send so many events at most.")
@click.option("--again", is_flag=True, help="Also what was sent again before.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@_where
def replay(
    limit: int | None,
    again: bool,
    dry_run: bool,
    url: str | None,
    data_dir: Path | None,
    as_json: bool,
    **selected: str | None,
) -> None:
    """Send events again that could not be counted, to their topic as they were, the oldest first.

    For what was not the senders' fault, once it is repaired. What would be late or bad again is not sent. An event that
    was sent is remembered, so this may be repeated; each counts once.
    """
    from rich.console import Console

    address, console = _address(url, data_dir), Console(stderr=True)
    parameters = _selection(selected) | {"again": str(again).lower(), "dry_run": str(dry_run).lower()}
    counts: Counter[str] = Counter()
    letters: list[dict[str, Any]] = []
    after: str | None = ""
    with console.status("replaying") as status:
        while after is not None and (limit is None or counts["sent"] < limit):
            room = _BATCH if limit is None else min(_BATCH, limit - counts["sent"])
            try:
                answer = _ask(address, "/v1/dlq/replay", "POST", limit=room, after=after, **parameters)
            except Unavailable as error:
                raise Unavailable(f"{error}; until then: {_counted(counts) or 'nothing'}. It can be repeated") from None
            after, found = answer.pop("next"), answer.pop("letters")
            answer.pop("dry_run")
            counts.update(answer)
            if dry_run:
                letters += found
            status.update(f"replaying: {_counted(counts)}")
    if as_json:
        click.echo(json.dumps({**counts, "dry_run": dry_run} | ({"letters": letters} if dry_run else {})))
        return
    if dry_run:
        _print(("letter", "fate"), [(_name(each), each["fate"]) for each in letters[:_SHOWN]])
        if letters[_SHOWN:]:
            click.echo(f"and {len(letters[_SHOWN:]):,} more; --json has all")
        click.echo("nothing is sent; would be:")
    click.echo(_counted(counts))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{fate.replace('_', ' ')} {count:,}" for fate, count in counts.items())


def _name(letter: dict[str, Any]) -> str:
    return f"{letter['topic']}/{letter['partition']}/{letter['offset']}"


def _selection(selected: dict[str, str | None]) -> dict[str, str]:
    """Options as the parameters of HTTP."""
    names = {"tenant": "tenant_id", "from_": "from"}
    return {names.get(option, option): value for option, value in selected.items() if value is not None}


def _address(url: str | None, data_dir: Path | None) -> str:
    if url:
        return url.rstrip("/")
    from streamlens.process import RUN_FILE
    from streamlens.settings import Settings

    if data_dir is not None:
        os.environ["STREAMLENS_DATA_DIR"] = str(data_dir)
    file = Settings.load(os.environ).data_dir / RUN_FILE
    try:
        return str(json.loads(file.read_text())["url"])
    except FileNotFoundError:
        raise BadSetting(f"nothing runs in {file.parent}: start `streamlens up`, or name a worker by --url") from None


def _ask(address: str, path: str, method: str = "GET", **parameters: object) -> Any:
    """The JSON that the server answers. Raises `Unavailable` when it does not, and `BadSetting` when it refuses."""
    from streamlens.settings import Settings

    key = Settings.load(os.environ).api_key
    request = Request(
        f"{address}{path}?{urlencode(parameters)}", method=method, headers={"X-API-Key": key} if key else {}
    )
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urlopen(request, timeout=PATIENCE_S) as got:
                return json.loads(got.read())
        except HTTPError as error:
            detail = _detail(error)
            if error.code != 503:
                raise BadSetting(f"{address}{path}: {detail}") from None
            pause_s = float(error.headers.get("Retry-After", 1))
            if time.monotonic() + pause_s > give_up:
                raise Unavailable(f"{address}{path}: {detail}") from None
            time.sleep(pause_s)
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise Unavailable(f"{address}{path}: no answer: {getattr(error, 'reason', error)}") from None


def _detail(error: HTTPError) -> str:
    with error, suppress(ValueError, AttributeError):
        problem = json.loads(error.read())
        return ": ".join(problem[name] for name in ("field", "detail") if problem.get(name))
    return f"{error.code} {error.reason}"


def _harmless(text: str) -> str:
    """What a sender has written, without what would command a terminal."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*(Text(_harmless(cell)) for cell in row))
    Console().print(table)
