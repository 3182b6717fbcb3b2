"""`streamlens keys`: API keys, made, listed and revoked in Postgres. What runs follows within seconds."""

import asyncio
import os
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamlens.errors import StreamLensError
from streamlens.keys import SCOPES, new_secret, sha256_of

if TYPE_CHECKING:
    from streamlens.postgres.keys import KeyRow

EXAMPLE = """
\b
Examples:
  streamlens keys create --tenant acme --scope ingest --scope read --name "the shop's backend"
  streamlens keys create --all-tenants --scope read --name prometheus
  streamlens keys list
  streamlens keys revoke 3
"""

_T = TypeVar("_T")
_data_dir = click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="  [default: .streamlens]"
)


@click.group(epilog=EXAMPLE)
def keys() -> None:
    """API keys, for STREAMLENS_AUTH=keys.

    They are in Postgres: in POSTGRES_DSN, or in the embedded one of the data directory, also beside a running `up`.
    """


def _name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and (len(value) > 256 or any(unicodedata.category(each) in ("Cc", "Cs") for each in value)):
        raise click.BadParameter("not a text of at most 256 characters, none of them a control character")
    return value


@keys.command(epilog='Example: streamlens keys create --tenant acme --scope ingest --name "the shop\'s backend"')
@click.option("--tenant", callback=_name, help="The tenant whose events and rows it is for.")
@click.option("--all-tenants", is_flag=True, help="Instead: for those of all tenants.")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True, help="Repeat for more.")
@click.option("--name", callback=_name, default="", help="Who has it, to be found in the list.")
@_data_dir
def create(tenant: str | None, all_tenants: bool, scopes: tuple[str, ...], name: str, data_dir: Path | None) -> None:
    """Make a key and print its secret. It is not kept, so this is the only time."""
    from streamlens.postgres.keys import create_key

    if bool(tenant) == all_tenants:
        raise click.UsageError("say either --tenant or --all-tenants")
    secret, given = new_secret(), [scope for scope in SCOPES if scope in scopes]
    key_id = _in_postgres(
        data_dir, lambda connection: create_key(connection, sha256_of(secret), tenant or None, given, name)
    )
    click.echo(f"key {key_id} for {_whose(tenant)}: {', '.join(given)}; it is shown this once", err=True)
    click.echo(secret)


@keys.command(name="list", epilog="Example: streamlens keys list")
@_data_dir
def list_(data_dir: Path | None) -> None:
    """List all keys, revoked ones too. Secrets are not kept, so they are not in it."""
    from streamlens.postgres.keys import list_keys

    _show(_in_postgres(data_dir, list_keys))


@keys.command(epilog="Example: streamlens keys revoke 3")
@click.argument("key_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@_data_dir
def revoke(key_id: int, data_dir: Path | None) -> None:
    """Revoke a key, by the number that the list shows. What runs refuses it within seconds."""
    from streamlens.postgres.keys import revoke_key

    if not _in_postgres(data_dir, lambda connection: revoke_key(connection, key_id)):
        raise StreamLensError(f"there is no key {key_id}, or it was revoked already")
    click.echo(f"key {key_id} is revoked")


def _in_postgres(data_dir: Path | None, action: Callable[[Any], Awaitable[_T]]) -> _T:
    """Do `action` on a connection to the migrated database of the settings."""
    import logging

    from streamlens import logs
    from streamlens.cli.audit import database
    from streamlens.postgres.connection import connect, unavailable
    from streamlens.postgres.migrate import migrate
    from streamlens.settings import Settings

    if data_dir is not None:
        os.environ["STREAMLENS_DATA_DIR"] = str(data_dir)
    settings = Settings.load(os.environ)
    logs.configure(settings.log_format, logging.WARNING)

    async def act(dsn: str) -> _T:
        await migrate(dsn)  # a database that no process has used yet takes keys too
        connection = await connect(dsn, statement_timeout_s=10)
        try:
            with unavailable():
                return await action(connection)
        finally:
            connection.terminate()

    with database(settings) as dsn:
        return asyncio.run(act(dsn))


def _show(rows: "list[KeyRow]") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("id", "tenant", "scopes", "name", "created", "revoked"):
        table.add_column(column, overflow="fold")
    for row in rows:
        revoked = f"{row.revoked_at:%Y-%m-%d %H:%M}" if row.revoked_at else ""
        created = f"{row.created_at:%Y-%m-%d %H:%M}"
        cells = (str(row.id), _whose(row.tenant_id), ", ".join(row.scopes), row.name, created, revoked)
        table.add_row(*map(Text, cells))
    Console().print(table)


def _whose(tenant_id: str | None) -> str:
    return "(all tenants)" if tenant_id is None else tenant_id
