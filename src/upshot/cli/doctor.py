"""`upshot doctor`: what the server needs, checked one by one, each with a remedy; or what an experiment lacks."""

import asyncio
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import click
from rich.console import Console

from upshot import datafolder
from upshot.backends import keyring_of, open_stores
from upshot.cli import diagnosing, options
from upshot.cli.connection import asked
from upshot.errors import UpshotError
from upshot.settings import Settings, load

FREE_SHARE = 0.05
YEAR = 2026  # the clock cannot be right before this program was written


@click.command("doctor")
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
        well = run(load(data_dir=data_dir))
    else:
        found = asked(lambda api: diagnosing.asked(api, experiment), data_dir, url, token)
        well = diagnosing.well(found)
        if as_json:
            click.echo(json.dumps(found, indent=2))
        else:
            diagnosing.show(found, Console())
    if not well:
        sys.exit(1)


def run(settings: Settings) -> bool:
    """Print one line per check; True when all are well."""
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("tokens", _tokens),
        ("signing", _signing),
        ("stores", _stores),
        ("disk", _disk),
        ("clock", _clock),
        ("SQLite", _sqlite),
        ("pages", _pages),
    )
    well = True
    for name, check in checks:
        try:
            click.echo(f"ok    {name:8} {check(settings)}")
        except (UpshotError, OSError) as error:
            well = False
            click.echo(f"FAIL  {name:8} {error}")
    return well


def _tokens(settings: Settings) -> str:
    if settings.clients:
        return f"{len(settings.clients)} configured"
    return "none configured; the data folder's own is used"


def _signing(settings: Settings) -> str:
    keyring_of(settings)
    if settings.jwt_secret_key is not None:
        return f"JWT_SECRET_KEY, {settings.jwt_algorithm}"
    return "the data folder's own key; where several processes share a database, set JWT_SECRET_KEY"


def _stores(settings: Settings) -> str:
    address = datafolder.running(settings)
    return f"in use by the server at {address}" if address else asyncio.run(_opened(settings))


async def _opened(settings: Settings) -> str:
    stores = await open_stores(settings, spooling=False)
    try:
        queue = f", queue: {await stores.queue.ping()}" if stores.queue else ""
        found = f"control: {await stores.control.ping()}, events: {await stores.events.ping()}{queue}"
        return f"{found}, cache: {await stores.cache.ping()}"
    finally:
        await stores.close()


def _disk(settings: Settings) -> str:
    folder = settings.data_dir if settings.data_dir.exists() else settings.data_dir.absolute().parent
    usage = shutil.disk_usage(folder)
    if usage.free < FREE_SHARE * usage.total:
        raise OSError(f"only {usage.free / usage.total:.1%} of the disk is free; at least {FREE_SHARE:.0%} is needed")
    return f"{usage.free / 2**30:.1f} GiB free"


def _clock(_settings: Settings) -> str:
    now = datetime.now(UTC)
    if now.year < YEAR:
        raise OSError(f"the clock says {now:%Y-%m-%d}; set it, assignments and events carry its time")
    return f"{now:%Y-%m-%d %H:%M:%S} UTC"


def _sqlite(_settings: Settings) -> str:
    return f"{sqlite3.sqlite_version}; one connection writes and checkpoints"


def _pages(_settings: Settings) -> str:
    if not (files("fastapi_offline") / "static" / "redoc.standalone.js").is_file():
        raise OSError("the documentation pages' scripts are missing; install the package again")
    return "scripts are installed"
