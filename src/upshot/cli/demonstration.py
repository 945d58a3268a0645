"""`upshot demo`: the whole loop on a real published experiment, from an empty folder to a result, in about a minute."""

import asyncio
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import httpx
import uvloop
from rich.console import Console

from upshot import datafolder, settings
from upshot.cli import importing, server, tables
from upshot.cli.connection import request
from upshot.clock import SystemClock
from upshot.demo import hillstrom
from upshot.tabular import Kind

KEY = "email-campaign"
SECONDS = 120.0


class _Rows:
    """Rows of the demonstration, as an importer takes them."""

    def __init__(self, lines: Iterator[bytes], count: int) -> None:
        self._lines, self.count = lines, count

    def lines(self) -> Iterator[bytes]:
        """Each row as one line of NDJSON."""
        return self._lines


@click.command()
def demo() -> None:
    """Run the whole loop on a real published experiment, then leave the server running until Ctrl-C."""
    uvloop.run(run())


async def run() -> None:
    """Serve on a free port with a fresh folder, send the experiment through the API, show the result, and go on serving."""
    with tempfile.TemporaryDirectory(prefix="upshot-demo-", ignore_cleanup_errors=True) as folder:
        chosen = settings.load(data_dir=Path(folder), host="127.0.0.1", port=0)
        with server.listening(chosen) as (listener, address):
            ready, invited = asyncio.Event(), list[str]()
            running = server.Server(chosen, datafolder.clients(chosen), listener, ready.set, invited.append)
            serving = asyncio.create_task(running.serve())
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            try:
                if not serving.done():
                    await _tell_the_story(address, datafolder.own_token(chosen), invited[0])
            except httpx.HTTPError:
                if not running.should_exit:  # Ctrl-C in the middle of the story closes its connections
                    raise
            await serving
    click.echo("\nThe demonstration is over; its folder is removed.")


async def _tell_the_story(address: str, token: str, invitation: str) -> None:
    click.echo(hillstrom.ABOUT)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=SECONDS) as client:
        await send(client)
        found: dict[str, Any] = (await request(client, "GET", f"/experiments/{KEY}/results")).json()
    tables.show(found, Console())
    _invite(address, token, invitation)


async def send(client: httpx.AsyncClient) -> None:
    """Send the experiment, its assignments and its events through the API."""
    data = hillstrom.load()
    start = SystemClock().now() - timedelta(days=15)
    await request(client, "POST", "/experiments", json=hillstrom.experiment(KEY))
    with importing.progress() as bar:
        parts: tuple[tuple[Kind, _Rows], ...] = (
            ("assignments", _Rows(hillstrom.assignments(data, start), len(data))),
            ("events", _Rows(hillstrom.events(data, start), hillstrom.event_count(data))),
        )
        for kind, rows in parts:
            await importing.send(client, KEY, kind, rows, f"demo-{kind}", bar)


def _invite(address: str, token: str, invitation: str) -> None:
    header = f"-H 'Authorization: Bearer {token}'"
    body = '{"user_id": "you", "event_type": "visit"}'
    click.echo(f"""
The server goes on running at {address} until Ctrl-C (API pages: {address}/docs).
Dashboard, once you chose a password: {address}/setup#{invitation}
Token for programs: {token}

Ask which variant you get, record a visit, and read the result:
  curl {header} {address}/experiments/{KEY}/assignment/you
  curl {header} -H 'Content-Type: application/json' -d '{body}' {address}/events
  curl {header} '{address}/experiments/{KEY}/results?metrics=visit'""")
