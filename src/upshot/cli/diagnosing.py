"""`upshot doctor EXPERIMENT`: what the server finds of an experiment's data, in the terminal."""

from typing import Any

import httpx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upshot.cli.connection import request

_COLOURS = {"problem": "red", "warning": "yellow", "ok": "green"}
_MARKS = {"problem": "✗", "warning": "!", "ok": "✓"}
SHOWN = 20


async def asked(client: httpx.AsyncClient, experiment: str) -> dict[str, Any]:
    """The diagnosis of an experiment."""
    found: dict[str, Any] = (await request(client, "GET", f"/experiments/{experiment}/doctor")).json()
    return found


def well(found: dict[str, Any]) -> bool:
    """Whether there is no problem."""
    return all(finding["severity"] != "problem" for finding in found["findings"])


def show(found: dict[str, Any], console: Console) -> None:
    """Print a diagnosis: findings with their remedies, the numbers, and the calls to try."""
    experiment, counts = found["experiment"], found["counts"]
    console.print(
        f"\n[bold]{escape(experiment['name'])}[/bold] ({escape(experiment['key'])}) is {experiment['status']};"
        f" checked {_moment(found['checked_at'])}"
    )
    for finding in found["findings"]:
        colour, mark = _COLOURS[finding["severity"]], _MARKS[finding["severity"]]
        console.print(f"[bold {colour}]{mark} {finding['code'].replace('_', ' ')}[/]: {escape(finding['message'])}")
        console.print(f"  → {escape(finding['remedy'])}")
    last = ", ".join(f"{name} {_moment(moment)}" for name, moment in found["last"].items())
    console.print(f"last: {last}")
    rate = "" if counts["join_rate"] is None else f" ({counts['join_rate']:.1%})"
    console.print(
        f"users: {counts['assigned_users']:,} assigned, {counts['exposed_users']:,} exposed, {counts['joined_users']:,}{rate}"
        " with an awaited event at or after the exposure"
    )
    console.print(
        f"events before exposure: {counts['events_before_exposure']:,}; of unknown users:"
        f" {counts['events_of_unknown_users']:,}; duplicates: {counts['duplicates']:,}; late: {counts['late_events']:,};"
        f" ahead of the clock: {counts['events_ahead_of_clock']:,}"
    )
    skew = found["clock_skew_seconds"]
    if skew is not None:
        console.print(f"events ahead of their receipt by: {skew['p50']:+,.1f} s (median), {skew['p99']:+,.1f} s (99 %)")
    console.print(_awaited(found["awaited"]))
    console.print(_received(found["received"]))
    for line in found["curls"].values():
        console.print(escape(line), soft_wrap=True, highlight=False)


def _awaited(parts: list[dict[str, Any]]) -> Table:
    table = _table("Event types that metrics wait for", ("event type", "metrics", "events", "last", "meant, perhaps"))
    for part in parts:
        near = ", ".join(f"{each['event_type']} ({each['events']:,})" for each in part["near_misses"])
        cells = (part["event_type"], ", ".join(part["metrics"]), f"{part['events']:,}", _moment(part["last_at"]), near)
        table.add_row(*map(escape, cells))
    return table


def _received(parts: list[dict[str, Any]]) -> Table:
    table = _table("Event types that came", ("event type", "events", "first", "last"))
    for part in parts[:SHOWN]:
        cells = (part["event_type"], f"{part['events']:,}", _moment(part["first_at"]), _moment(part["last_at"]))
        table.add_row(*map(escape, cells))
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        table.add_column(name, justify="right" if name == "events" else "left")
    return table


def _moment(text: str | None) -> str:
    return "never" if text is None else f"{text[:19].replace('T', ' ')} UTC"
