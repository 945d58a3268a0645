"""`upshot deadletters`: what could not be stored, shown, replayed and dropped."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from upshot import eventqueue, settings
from upshot.cli import options
from upshot.errors import ConfigurationError, UpshotError
from upshot.eventqueue import EventQueue

MOST = 1_000

Answer = TypeVar("Answer")

_ids = click.argument("ids", nargs=-1)
_all = click.option("--all", "everything", is_flag=True, help="All of them.")


@click.group()
def deadletters() -> None:
    """Messages of the queue that could not be stored."""


@deadletters.command("list")
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True, help="How many, oldest first.")
@options.data_dir
def listed(limit: int, data_dir: Path | None) -> None:
    """List them: id, when, size, reason."""
    found = _asked(data_dir, lambda queue: queue.dead_letters(limit))
    for letter in found:
        click.echo(f"{letter.id}\t{letter.buried_at}\t{len(letter.body)} bytes\t{letter.reason}")
    if not found:
        click.echo("there are none")


@deadletters.command()
@click.argument("id")
@options.data_dir
def show(id: str, data_dir: Path | None) -> None:  # noqa: A002 - the name of the argument in the help
    """Print one message as it came."""
    for letter in _asked(data_dir, lambda queue: queue.dead_letters(MOST)):
        if letter.id == id:
            click.echo(letter.body.decode(errors="backslashreplace"))
            return
    raise UpshotError("there is no such dead letter")


@deadletters.command()
@_ids
@_all
@options.data_dir
def replay(ids: tuple[str, ...], *, everything: bool, data_dir: Path | None) -> None:
    """Put messages back into the queue."""
    chosen = _chosen(ids, everything=everything)
    click.echo(f"{_asked(data_dir, lambda queue: queue.replay(chosen))} put back into the queue")


@deadletters.command()
@_ids
@_all
@options.data_dir
def drop(ids: tuple[str, ...], *, everything: bool, data_dir: Path | None) -> None:
    """Delete messages for ever."""
    chosen = _chosen(ids, everything=everything)
    click.echo(f"{_asked(data_dir, lambda queue: queue.drop(chosen))} dropped")


def _chosen(ids: tuple[str, ...], *, everything: bool) -> list[str] | None:
    if everything == bool(ids):
        raise click.UsageError("give ids, or --all")
    return None if everything else list(ids)


def _asked(data_dir: Path | None, question: Callable[[EventQueue], Awaitable[Answer]]) -> Answer:
    url = settings.load(data_dir=data_dir).queue_url
    if url is None:
        raise ConfigurationError("QUEUE_URL: not set; without a queue there are no dead letters")

    async def ask() -> Answer:
        queue = await eventqueue.connect(url)
        try:
            return await question(queue)
        finally:
            await queue.close()

    return asyncio.run(ask())
