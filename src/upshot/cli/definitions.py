"""`upshot metric`: metric definitions, shown, defined from files and archived."""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click
import httpx

from upshot import metrics
from upshot.cli import options
from upshot.cli.connection import asked, checked, request

PATH = "/metric-definitions"
_STORED = frozenset({"version", "created_at", "archived_at"})


@click.group()
def metric() -> None:
    """Metric definitions: what is measured, by a key that experiments refer to."""


@metric.command("list")
@click.option("--search", help="In key, name and description.")
@options.server
def listed(search: str | None, data_dir: Path | None, url: str | None, token: str | None) -> None:
    """List them, the last changed first: key, version, kind, name."""
    found = asked(lambda client: _all(client, search), data_dir, url, token)
    for definition in found:
        click.echo(
            f"{definition['key']}\t{definition['version']}\t{definition['kind']}\t{definition.get('name', '')}".rstrip()
        )
    if not found:
        click.echo("there are none")


@metric.command()
@click.argument("key")
@click.option("--version", type=click.IntRange(1), help="That version, also of a key that is archived.")
@options.server
def show(key: str, version: int | None, data_dir: Path | None, url: str | None, token: str | None) -> None:
    """Print the definition of KEY as JSON."""
    parameters = {"version": version} if version else {}
    found = asked(lambda client: request(client, "GET", f"{PATH}/{key}", params=parameters), data_dir, url, token)
    click.echo(json.dumps(found.json(), indent=2, ensure_ascii=False))


@metric.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.server
def define(file: Path, data_dir: Path | None, url: str | None, token: str | None) -> None:
    """Define the metric that FILE holds as JSON; where its key is defined already, FILE is its next version."""
    definition = _read(file)
    found = asked(lambda client: _define(client, definition), data_dir, url, token)
    click.echo(f"{found['key']} is at version {found['version']}")


@metric.command()
@click.argument("key")
@options.server
def archive(key: str, data_dir: Path | None, url: str | None, token: str | None) -> None:
    """Archive KEY: experiments that have started keep what they started with."""
    asked(lambda client: request(client, "DELETE", f"{PATH}/{key}"), data_dir, url, token)
    click.echo(f"{key} is archived")


def _read(file: Path) -> dict[str, Any]:
    """The definition in a file, which may be what `show` printed."""
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        raise click.BadParameter(f"{file} is not JSON", param_hint="FILE") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f"{file} holds no JSON object", param_hint="FILE")
    return {name: value for name, value in found.items() if value is not None and name not in _STORED}


async def _all(client: httpx.AsyncClient, search: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {"limit": 200} | ({"search": search} if search else {})
    while True:
        page = (await request(client, "GET", PATH, params=parameters)).json()
        found += page["metric_definitions"]
        if page["next_cursor"] is None:
            return found
        parameters["cursor"] = page["next_cursor"]


async def _define(client: httpx.AsyncClient, definition: dict[str, Any]) -> dict[str, Any]:
    """Make the definition, or the next version of it: what the file does not say is taken away from the one before."""
    made = await client.post(PATH, json=definition)
    if made.status_code != HTTPStatus.CONFLICT:
        return dict(checked(made).json())
    path = f"{PATH}/{metrics.define(definition).key}"
    present = (await request(client, "GET", path)).json()
    changes = dict.fromkeys(present.keys() - _STORED) | definition | {"version": present["version"]}
    del changes["key"]
    return dict((await request(client, "PATCH", path, json=changes)).json())
