"""`streamlens migrate`: the SQL migrations, by hand."""

import asyncio
import os

import click


@click.command(epilog="Example: POSTGRES_DSN=postgres://user:password@host/database streamlens migrate")
def migrate() -> None:
    """Apply the SQL migrations to POSTGRES_DSN.

    `up` does this at each start, under a lock; running it twice is fine.
    """
    from streamlens.errors import BadSetting
    from streamlens.postgres.migrate import migrate as apply
    from streamlens.settings import Settings

    settings = Settings.load(os.environ)
    if not settings.postgres_dsn:
        raise BadSetting("POSTGRES_DSN is not set; the embedded PostgreSQL is migrated by `streamlens up`")
    applied = asyncio.run(apply(settings.postgres_dsn))
    for name in applied:
        click.echo(name)
    click.echo(f"{len(applied)} migrations applied")
