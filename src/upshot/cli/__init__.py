"""The command line: the same operations as everybody else, over HTTP to a running server or in this process without one.

What goes wrong is one line on standard error and an exit code: 2 for a wrong call or configuration, 1 for anything else.
A command is imported when it is asked for: who asks a server does not wait for all that one is made of.
"""

import sys
from collections.abc import Callable
from importlib import import_module

import click
import httpx

from upshot import __version__
from upshot.errors import ConfigurationError, UpshotError

COMMANDS = {
    "backup": "backups:backup",
    "calibrate": "calibrating:calibrate",
    "config": "configuration:config",
    "ddl": "schemas:ddl",
    "deadletters": "deadletters:deadletters",
    "demo": "demonstration:demo",
    "doctor": "doctor:examine",
    "import": "importing:import_files",
    "key": "accounts:key",
    "metric": "definitions:metric",
    "migrate": "schemas:migrate",
    "notebook": "notebooks:write_notebook",
    "plan": "planning:plan",
    "results": "reading:results",
    "serve": "server:serve",
    "user": "accounts:user",
    "worker": "working:work",
}
"""Module of this package and name there, by command."""


class Commands(click.Group):
    """Commands whose modules are imported when they are asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """The names of all."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, command: str) -> click.Command | None:
        """The command of that name, if there is one."""
        if command not in COMMANDS:
            return None
        module, _, name = COMMANDS[command].partition(":")
        found: click.Command = getattr(import_module(f"upshot.cli.{module}"), name)
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="upshot %(version)s")
@click.pass_obj
def commands(imported: Callable[[], None] | None) -> None:
    """Upshot: create experiments, assign users, record events, read results that can be trusted."""
    if imported is not None:
        imported()


def main(imported: Callable[[], None] | None = None) -> None:
    """The `upshot` command. `imported` is called when the command that is asked for is there, before it is done."""
    try:
        commands(standalone_mode=False, obj=imported)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except ConfigurationError as error:
        _fail(error.detail, 2)
    except UpshotError as error:
        _fail("; ".join([error.detail, *(f"{fault.pointer} {fault.message}" for fault in error.faults)]), 1)
    except httpx.HTTPError as error:
        _fail(f"the server cannot be reached: {error}", 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"upshot: {' '.join(message.split())}", err=True)
    sys.exit(code)
