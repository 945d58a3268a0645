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
    "demo": ("demonstration:demo", "Run the whole loop on a real published experiment."),
    "serve": ("server:serve", "Run the server."),
    "worker": ("working:work", "Empty the queue and do the scheduled work."),
    "config": ("configuration:config", "Print the effective settings."),
    "doctor": ("doctor:examine", "Say what the server needs, or an experiment lacks."),
    "migrate": ("schemas:migrate", "Bring the control database to this version."),
    "ddl": ("schemas:ddl", "Print the statements that make ClickHouse's tables."),
    "backup": ("backups:backup", "Copy the embedded stores; a server may run."),
    "user": ("accounts:user", "Make, invite, change and remove people."),
    "key": ("accounts:key", "Make, rotate and revoke API keys."),
    "metric": ("definitions:metric", "Define what is measured."),
    "plan": ("planning:plan", "Say how many users and days an effect needs."),
    "import": ("importing:import_files", "Import assignments and events of the past."),
    "results": ("reading:results", "Show the result of an experiment."),
    "notebook": ("notebooks:write_notebook", "Write a notebook that recomputes a result."),
    "calibrate": ("calibrating:calibrate", "Count the errors of experiments whose truth is known."),
    "deadletters": ("deadletters:deadletters", "Show and replay what could not be stored."),
}
"""Module of this package and name there of each command, and what it does in a few words; about in the order of their use."""


class Commands(click.Group):
    """Commands whose modules are imported when they are asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """The names of all."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, command: str) -> click.Command | None:
        """The command of that name, if there is one."""
        if command not in COMMANDS:
            return None
        module, _, name = COMMANDS[command][0].partition(":")
        found: click.Command = getattr(import_module(f"upshot.cli.{module}"), name)
        return found

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what every command does, without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in COMMANDS.items()])


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
