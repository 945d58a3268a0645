"""`upshot results`: the answer of the API as tables, or as it is."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from upshot import settings
from upshot.cli import breakdowns, options, tables
from upshot.cli.connection import connected, request
from upshot.settings import Settings


@click.command()
@click.argument("experiment")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option("--metrics", help="Metrics, separated by commas.")
@click.option("--start", help="First day (2026-01-31) or moment (with an offset).")
@click.option("--end", help="Last day, inclusive, or moment (with an offset), exclusive.")
@click.option("--timezone", help="IANA name; days begin at its midnight.  [default: UTC]")
@click.option(
    "--confidence-level", type=click.FloatRange(0.5, 0.999, min_open=True), help="By default that of the plan."
)
@click.option("--by", "by", multiple=True, help="An attribute of the context, or two: country*device. May be repeated.")
@click.option("--over", type=click.Choice(["hour", "day", "week"]), help="How the effect stood at the end of each.")
@click.option("--beside", help="Another experiment: do the two effects depend on each other?")
@options.server
def results(
    experiment: str,
    *,
    as_json: bool,
    by: tuple[str, ...],
    over: str | None,
    beside: str | None,
    data_dir: Path | None,
    url: str | None,
    token: str | None,
    **asked: Any,
) -> None:
    """Show the result of EXPERIMENT (id or key)."""
    renamed = {"start_date": asked.pop("start"), "end_date": asked.pop("end"), "interaction_with": beside}
    parameters = {
        name: value
        for name, value in {**asked, **renamed, "group_by": ",".join(by), "granularity": over}.items()
        if value
    }
    if over:
        parameters["cumulative"] = "true"
    found = asyncio.run(_found(settings.load(data_dir=data_dir), url, token, experiment, parameters))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    console = Console()
    tables.show(found, console)
    breakdowns.show(found, console)


async def _found(
    chosen: Settings, url: str | None, token: str | None, experiment: str, parameters: dict[str, Any]
) -> dict[str, Any]:
    async with connected(chosen, url, token) as client:
        answer = await request(client, "GET", f"/experiments/{experiment}/results", params=parameters)
        found: dict[str, Any] = answer.json()
        return found
