"""The command line: the same operations as everybody else, over HTTP to a running server or in this process without one.

What goes wrong is one line on standard error and an exit code: 2 for a wrong call or configuration, 1 for anything else.
"""

import asyncio
import json
import shutil
import sys
from pathlib import Path

import click
import httpx
import uvloop
from rich.console import Console

from upshot import __version__, settings
from upshot.backends import SECRET_FILE, open_stores
from upshot.cli import (
    backups,
    connection,
    demonstration,
    diagnosing,
    doctor,
    importing,
    notebooks,
    options,
    server,
    working,
)
from upshot.cli.accounts import key, user
from upshot.cli.calibrating import calibrate
from upshot.cli.deadletters import deadletters
from upshot.cli.definitions import metric
from upshot.cli.planning import plan
from upshot.cli.reading import results
from upshot.control import migrate as migration
from upshot.errors import ConfigurationError, UpshotError
from upshot.eventstore import clickhouse
from upshot.operations import backup as backing
from upshot.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="upshot %(version)s")
def commands() -> None:
    """Upshot: create experiments, assign users, record events, read results that can be trusted."""


@commands.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@options.data_dir
def serve(host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Run the server until Ctrl-C."""
    uvloop.run(server.serve(settings.load(host=host, port=port, data_dir=data_dir)))


@commands.command()
@options.data_dir
def migrate(data_dir: Path | None) -> None:
    """Bring the control database to this version's schema."""
    chosen = settings.load(data_dir=data_dir)
    revision = asyncio.run(migration.upgrade(chosen.control_store_url, chosen.migration_database_url))
    click.echo(f"the control database is at schema {revision}")


@commands.command()
@options.data_dir
def worker(data_dir: Path | None) -> None:
    """Empty the queue into the event store and do the scheduled work, until Ctrl-C."""
    uvloop.run(working.run(settings.load(data_dir=data_dir)))


@commands.command()
@click.option("--database", default="default", show_default=True, help="Name of the ClickHouse database.")
@click.option("--cluster", help="Name of the cluster; without it, the tables of one server.")
def ddl(database: str, cluster: str | None) -> None:
    """Print the statements that make ClickHouse's tables, to review or to run by hand."""
    click.echo(";\n\n".join(clickhouse.ddl(database, cluster)) + ";")


@commands.command()
def demo() -> None:
    """Run the whole loop on a real published experiment, then leave the server running until Ctrl-C."""
    uvloop.run(demonstration.run())


@commands.command("import")
@click.option("--experiment", required=True, help="Id or key of the experiment.")
@click.option(
    "--assignments",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV, NDJSON or Parquet.",
)
@click.option("--events", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV, NDJSON or Parquet.")
@options.server
def import_files(
    experiment: str,
    assignments: Path | None,
    events: Path | None,
    data_dir: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Import assignments made elsewhere and past events, with their own times."""
    if assignments is None and events is None:
        raise click.UsageError("give --assignments, --events or both")
    chosen = settings.load(data_dir=data_dir)
    refused = asyncio.run(importing.run(chosen, url, token, experiment, assignments, events))
    if refused:
        raise UpshotError(f"{refused} rows were refused")


@commands.command("notebook")
@click.argument("experiment")
@click.option("--output", type=click.Path(path_type=Path), default=Path(), help="Folder; by default the present one.")
@click.option("--metrics", help="Metrics, separated by commas.")
@options.server
def write_notebook(
    experiment: str,
    *,
    output: Path,
    metrics: str | None,
    data_dir: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Write a notebook that recomputes the result of EXPERIMENT from its rows, with SciPy alone."""
    chosen = settings.load(data_dir=data_dir)
    for path in asyncio.run(notebooks.write(chosen, url, token, experiment, output, metrics)):
        click.echo(str(path))


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path))
@options.data_dir
def backup(folder: Path, data_dir: Path | None) -> None:
    """Copy the embedded stores into FOLDER, which is new; a server may run. Restored, it is a data folder."""
    asyncio.run(_backup(settings.load(data_dir=data_dir), folder.absolute()))
    click.echo(f"everything that was acknowledged until now is in {folder}")


@commands.command()
@options.data_dir
def config(data_dir: Path | None) -> None:
    """Print the effective settings, secrets masked."""
    for name, value in settings.load(data_dir=data_dir).masked().items():
        click.echo(f"UPSHOT_{name.upper()}={value}")


@commands.command("doctor")
@click.argument("experiment", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the whole diagnosis of EXPERIMENT as JSON.")
@options.server
def examine(
    experiment: str | None, *, as_json: bool, data_dir: Path | None, url: str | None, token: str | None
) -> None:
    """Say why EXPERIMENT (id or key) has no data, or less than it should; the exit code is 1 where there is a problem.

    Without EXPERIMENT, check what the server needs: settings, folder, databases, disk, clock, assets.
    """
    if experiment is None:
        well = doctor.run(settings.load(data_dir=data_dir))
    else:
        found = connection.asked(lambda api: diagnosing.asked(api, experiment), data_dir, url, token)
        well = diagnosing.well(found)
        if as_json:
            click.echo(json.dumps(found, indent=2))
        else:
            diagnosing.show(found, Console())
    if not well:
        sys.exit(1)


commands.add_command(calibrate)
commands.add_command(deadletters)
commands.add_command(key)
commands.add_command(metric)
commands.add_command(plan)
commands.add_command(results)
commands.add_command(user)


def main() -> None:
    """The `upshot` command."""
    try:
        commands(standalone_mode=False)
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


async def _backup(chosen: Settings, folder: Path) -> None:
    if server.running(chosen):
        await backups.ask(chosen, folder)
    else:
        with server.alone(chosen):
            stores = await open_stores(chosen)
            try:
                await backing.back_up(stores, folder)
            finally:
                await stores.close()
    for name in (server.TOKEN_FILE, SECRET_FILE):  # without its secret nobody could open what is sealed in the copy
        if (chosen.data_dir / name).exists():
            shutil.copy2(chosen.data_dir / name, folder)
