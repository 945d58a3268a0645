"""`upshot notebook`: write a notebook that recomputes a result, with the rows and the result that it needs."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from upshot import notebook
from upshot.cli import options
from upshot.cli.connection import connected, request
from upshot.settings import Settings, load


@click.command("notebook")
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
    for path in asyncio.run(write(load(data_dir=data_dir), url, token, experiment, output, metrics)):
        click.echo(str(path))


async def write(
    settings: Settings, url: str | None, token: str | None, experiment: str, folder: Path, metrics: str | None
) -> list[Path]:
    """The files that were written: notebook, rows, result; all of the same moment."""
    moment = datetime.now(UTC)
    async with connected(settings, url, token) as client:
        path = f"/experiments/{experiment}/results"
        asked = {"metrics": metrics} if metrics else {}
        found = (await request(client, "GET", path, params=asked)).json()
        end = found["experiment"]["ended_at"] or moment.isoformat()
        asked["end_date"] = end
        found = (await request(client, "GET", path, params=asked)).json()
        rows = await request(client, "GET", f"{path}/export", params=asked | {"format": "csv"})
    return await asyncio.to_thread(_written, folder, found, rows.content)


def _written(folder: Path, found: dict[str, Any], rows: bytes) -> list[Path]:
    key = found["experiment"]["key"]
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{key}{ending}" for ending in (".ipynb", ".csv", ".json")]
    files[1].write_bytes(rows)
    files[2].write_text(json.dumps(found, indent=2), encoding="utf-8")
    built = notebook.build(found["experiment"]["name"], files[1].name, files[2].name)
    files[0].write_text(json.dumps(built, indent=1), encoding="utf-8")
    return files
