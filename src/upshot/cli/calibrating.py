"""`upshot calibrate`: simulated experiments through the code that judges real ones, beside what it promises."""

import asyncio
import csv
import io
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from upshot import settings
from upshot.calibration import Check, Design, Population, Simulation, Tally, resampled, synthetic
from upshot.cli.connection import connected, request
from upshot.errors import UpshotError
from upshot.metrics import Direction, Kind, Metric
from upshot.settings import Settings

PART = 20  # runs that a process makes at a time
FEW_PARTS = 5  # more than these are shared out among processes, which take seconds to start
MADE_UP = {"conversion": Kind.CONVERSION, "sum": Kind.SUM}
MOST_METRICS = 2  # a primary and a secondary metric: each is judged by itself, nothing is corrected for the other
FEWEST_USERS = 100
NOT_NUMBERS = ("user_id", "variant", "phase", "exposed_at", "context")  # columns of an export


class Split(click.ParamType[tuple[int, int]]):
    """Two whole weights, such as 50:50."""

    name = "split"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """The weights of control and treatment."""
        found = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", str(value))
        if found is None:
            self.fail("two whole numbers such as 90:10", param, ctx)
        return int(found[1]), int(found[2])


@click.command()
@click.option(
    "--experiment", help="Id or key of an experiment, whose control users are drawn again; else users are made up."
)
@click.option(
    "--metric", "names", multiple=True, help="conversion or sum, or metrics of the experiment; twice at most."
)
@click.option("--simulations", type=click.IntRange(10, 1_000_000), default=1_000, show_default=True)
@click.option(
    "--days", type=click.IntRange(2, 100), default=14, show_default=True, help="With a look at the end of each."
)
@click.option("--users-per-day", type=click.IntRange(10, 1_000_000), default=1_000, show_default=True)
@click.option(
    "--baseline",
    type=click.FloatRange(0.0001, 0.9999),
    default=0.05,
    show_default=True,
    help="Share of users who order.",
)
@click.option(
    "--lift",
    type=click.FloatRange(-0.99, 100.0),
    help="A fraction; by default what the users find in 80 % of experiments.",
)
@click.option("--split", type=Split(), default="50:50", show_default=True, help="Control and treatment.")
@click.option("--ramp", type=Split(), help="Another split for the first half of the days, a phase of its own.")
@click.option("--seed", type=click.IntRange(0), default=2_026, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the embedded stores.")
@click.option("--url", envvar="UPSHOT_URL", help="A running server; by default the one on the data folder, if any.")
@click.option("--token", envvar="UPSHOT_TOKEN", help="Bearer token; by default the one in the data folder.")
def calibrate(
    *,
    experiment: str | None,
    names: tuple[str, ...],
    baseline: float,
    seed: int,
    as_json: bool,
    data_dir: Path | None,
    url: str | None,
    token: str | None,
    **sizes: Any,
) -> None:
    """Simulate experiments whose truth is known, judge them at every look as real ones are, and count the errors.

    The exit code is 1 when a count lies outside the bounds that chance explains in 99.9 % of cases.
    """
    if len(set(names)) < len(names) or len(names) > MOST_METRICS:
        raise click.UsageError(f"--metric: name at most {MOST_METRICS} different metrics")
    if experiment is None:
        population = _made_up(names or tuple(MADE_UP), baseline, seed)
    else:
        population = asyncio.run(_resampled(settings.load(data_dir=data_dir), url, token, experiment, names))
    design = Design(population, seed=seed, **sizes)
    try:
        simulation = Simulation(design)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    checks = list(simulation.checks(_tallied(design, simulation)))
    if as_json:
        click.echo(json.dumps(_document(design, checks), indent=2))
    else:
        _show(design, checks, Console())
    if any(check.inside is False for check in checks):
        sys.exit(1)


def _made_up(names: Sequence[str], baseline: float, seed: int) -> Population:
    unknown = [name for name in names if name not in MADE_UP]
    if unknown:
        raise click.UsageError(f"--metric: without --experiment it is {' or '.join(MADE_UP)}, not {unknown[0]}")
    return synthetic(baseline, [MADE_UP[name] for name in names], np.random.default_rng(seed))


async def _resampled(
    chosen: Settings, url: str | None, token: str | None, experiment: str, names: Sequence[str]
) -> Population:
    """The control users of an experiment, with the numbers that an export gives them."""
    async with connected(chosen, url, token) as client:
        path = f"/experiments/{experiment}/results"
        asked = {"metrics": ",".join(names)} if names else {}
        found = (await request(client, "GET", path, params=asked)).json()
        control = next(variant for variant in found["variants"] if variant["is_control"])
        keys = list(control["metrics"]) if names else list(control["metrics"])[:1]
        asked = {"metrics": ",".join(keys), "format": "csv"}
        rows = csv.DictReader(
            io.StringIO((await request(client, "GET", f"{path}/export", params=asked)).text, newline="")
        )
    directions = {comparison["metric"]: Direction(comparison["direction"]) for comparison in found["comparisons"]}
    metrics = [Metric(key, Kind(control["metrics"][key]["kind"]), direction=directions[key]) for key in keys]
    users = [row for row in rows if row["variant"] == control["name"]]
    if len(users) < FEWEST_USERS:
        raise UpshotError(f"the control has {len(users)} users; {FEWEST_USERS} are the fewest to draw from")
    numbers = [name for name in rows.fieldnames or () if name not in NOT_NUMBERS]
    try:
        return resampled(metrics, {name: [float(user[name]) for user in users] for name in numbers})
    except ValueError as error:
        raise UpshotError(str(error)) from None


def _tallied(design: Design, simulation: Simulation) -> Tally:
    """All runs: a few in this process, many in as many processes as there are processors."""
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    parts = [range(start, min(start + PART, design.simulations)) for start in range(0, design.simulations, PART)]
    tally = Tally()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar, ExitStack() as exits:
        task = bar.add_task("", total=design.simulations)
        tallies: Iterator[Tally] = map(simulation.tally, parts)
        if len(parts) > FEW_PARTS:
            # Fresh processes: one that is copied from a process with threads may wait for ever.
            fresh = multiprocessing.get_context("spawn")
            pool = exits.enter_context(ProcessPoolExecutor(os.cpu_count(), fresh, _remember, (design,)))
            tallies = pool.map(_tally_of, parts)
        for part, found in zip(parts, tallies, strict=True):
            tally.update(found)
            bar.advance(task, len(part))
    return tally


_simulations: list[Simulation] = []  # of this process, if it is one of those that make the runs


def _remember(design: Design) -> None:
    _simulations.append(Simulation(design))


def _tally_of(runs: range) -> Tally:
    return _simulations[0].tally(runs)


def _document(design: Design, checks: Sequence[Check]) -> dict[str, Any]:
    shown = {
        name: getattr(design, name)
        for name in ("days", "users_per_day", "split", "ramp", "lift", "simulations", "seed")
    }
    found = [asdict(check) | {"rate": check.rate, "inside": check.inside} for check in checks]
    return {"design": shown, "checks": found, "outside": sum(check.inside is False for check in checks)}


def _show(design: Design, checks: Sequence[Check], console: Console) -> None:
    console.print(f"{design.simulations:,} experiments without an effect and as many with one, seed {design.seed}")
    console.print(f"{design.users:,} users, {design.days} daily looks, split {design.split[0]}:{design.split[1]}\n")
    for subject, found in groupby(checks, key=lambda check: check.subject):
        console.print(_table(subject, list(found)))
    outside = sum(check.inside is False for check in checks)
    verdict = f"[bold red]{outside} OUTSIDE[/]" if outside else "[green]all inside[/]"
    console.print(f"{verdict}; chance alone puts a count outside once in a thousand times")


def _table(subject: str, checks: Sequence[Check]) -> Table:
    table = Table(title=escape(subject), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("what", "promised", "happened", "count", "bounds", "verdict"):
        table.add_column(name, no_wrap=True, justify="left" if name in {"what", "verdict"} else "right")
    for check in checks:
        table.add_row(escape(check.name), *_cells(check))
    return table


def _cells(check: Check) -> tuple[str, str, str, str, str]:
    happened, count = f"{check.rate:.1%}", f"{check.count:,}"
    if check.promise is None:
        return "nothing", happened, count, "", "[yellow]warning[/]"
    promised = f"{'≤ ' if check.is_limit else ''}{check.promise:.1%}"
    verdict = "inside" if check.inside else "[bold red]OUTSIDE[/]"
    return promised, happened, count, f"{check.low:,}–{check.high:,}", verdict
