"""Importing files: rows go to the import path in NDJSON parts, each with a key of its own, so that a second run adds nothing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import httpx
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from upshot.cli import options
from upshot.cli.connection import connected, request
from upshot.errors import UpshotError
from upshot.settings import Settings, load
from upshot.tabular import Kind, Lines, Rows

PART = 20_000


@click.command("import")
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
    refused = asyncio.run(run(load(data_dir=data_dir), url, token, experiment, assignments, events))
    if refused:
        raise UpshotError(f"{refused} rows were refused")


async def run(
    settings: Settings,
    url: str | None,
    token: str | None,
    experiment: str,
    assignments: Path | None,
    events: Path | None,
) -> int:
    """Import the files; returns how many rows were refused."""
    files: list[tuple[Kind, Path]] = []
    files += [("assignments", assignments)] if assignments else []
    files += [("events", events)] if events else []
    readable = [(kind, path, Rows(path, kind)) for kind, path in files]
    refused = 0
    async with connected(settings, url, token) as client:
        await request(client, "GET", f"/experiments/{experiment}")
        with progress() as bar:
            for kind, path, rows in readable:
                found = await send(client, experiment, kind, rows, _digest(path), bar)
                refused += _tell(kind, found)
    return refused


def progress() -> Progress:
    """A bar with rate and time left."""
    rate = TextColumn("{task.fields[rate]}")
    return Progress(
        TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()
    )


async def send(
    client: httpx.AsyncClient, experiment: str, kind: Kind, rows: Lines, key: str, bar: Progress
) -> dict[str, Any]:
    """Send all rows; returns what became of them."""
    task = bar.add_task(kind, total=rows.count, rate="")
    total: dict[str, Any] = {"accepted": 0, "duplicates": 0, "rejected_count": 0, "rejected": []}
    for number, part in enumerate(_parts(rows.lines())):
        response = await request(
            client, "POST", f"/experiments/{experiment}/import", content=_stream(part),
            headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": f"{key}-{number}"},
        )  # fmt: skip
        for found in response.json().values():
            for name in ("accepted", "duplicates", "rejected_count"):
                total[name] += found[name]
            total["rejected"] += [
                {**refused, "index": refused["index"] + number * PART} for refused in found["rejected"]
            ]
        bar.advance(task, len(part))
        speed = bar.tasks[task].speed
        bar.update(task, rate=f"{speed:,.0f} rows/s" if speed else "")
    return total


def _tell(kind: Kind, found: dict[str, Any]) -> int:
    refused: int = found["rejected_count"]
    click.echo(f"{kind}: {found['accepted']} new, {found['duplicates']} known already, {refused} refused")
    for row in found["rejected"][:5]:
        click.echo(f"  row {row['index'] + 1}: {row['pointer']} {row['message']}", err=True)
    return refused


def _parts(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while part := list(islice(lines, PART)):
        yield part


async def _stream(part: list[bytes]) -> AsyncIterator[bytes]:
    for start in range(0, len(part), 1_000):
        yield b"".join(part[start : start + 1_000])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:40]
