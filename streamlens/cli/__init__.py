"""The command line, `streamlens`: one subcommand a module, imported when it is called."""

import importlib
from typing import ClassVar

import click

from streamlens import __version__
from streamlens.errors import StreamLensError


class _Commands(click.Group):
    """Subcommands by name, so that `--help` does not import the whole pipeline."""

    modules: ClassVar[dict[str, str]] = {
        "up": "streamlens.cli.up",
        "worker": "streamlens.cli.worker",
        "simulate": "streamlens.cli.simulate",
        "migrate": "streamlens.cli.migrate",
        "audit": "streamlens.cli.audit",
        "keys": "streamlens.cli.keys",
        "prices": "streamlens.cli.prices",
        "dlq": "streamlens.cli.dlq",
        "skip-lost": "streamlens.cli.skip_lost",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        command: click.Command = getattr(importlib.import_module(self.modules[cmd_name]), cmd_name.replace("-", "_"))
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Errors that say what to do need no stack."""
        try:
            return super().invoke(ctx)
        except StreamLensError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """StreamLens: real-time observability for LLM applications."""
