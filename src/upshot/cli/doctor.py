"""What the server needs, checked one by one, each with a remedy."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files

import click

from upshot.backends import keyring_of, open_stores
from upshot.cli import server
from upshot.errors import UpshotError
from upshot.settings import Settings

FREE_SHARE = 0.05
YEAR = 2026  # the clock cannot be right before this program was written


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
    address = server.running(settings)
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
