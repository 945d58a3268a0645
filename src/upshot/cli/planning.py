"""`upshot plan`: how many users, for how many days, for which effect; without a server where the baseline is given."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upshot import settings
from upshot.cli import options
from upshot.cli.connection import connected, request
from upshot.errors import UpshotError
from upshot.http.body import validated
from upshot.http.planning import PlanAnswer, PlanRequest
from upshot.metrics.model import SHARES, Kind
from upshot.operations.planner import HISTORY, from_given
from upshot.variants import COUNT

ROWS = 12
_OPTIONS = {
    "/baseline/value": "--baseline", "/baseline/standard_deviation": "--sd", "/baseline/users_per_day": "--per-day",
    "/users_per_day": "--per-day", "/relative_effect": "--effect", "/absolute_effect": "--absolute-effect",
    "/run_for_days": "--days", "/history_days": "--history-days", "/variants": "--variants", "/kind": "--kind",
    "/users": "--users", "/metric": "--metric", "/entry": "--entry", "/experiment": "--experiment", "/alpha": "--alpha",
    "/power": "--power", "/looks": "--looks",
}  # fmt: skip
_REASONS = {
    "no_users": "nobody has come yet", "one_user": "a single user has no variance", "zero_variance": "all users are alike",
    "zero_baseline": "the value is 0", "zero_denominator": "there is nothing to divide by", "too_few": "too few users",
    "effect_out_of_range": "a share stays between 0 and 1", "too_many_users": "more users than there are",
    "no_users_per_day": "it is not known how many users come a day", "too_long": "it would take for ever",
}  # fmt: skip


class Effect(click.ParamType[float]):
    """A relative effect: 5% or 0.05."""

    name = "effect"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The effect as a fraction."""
        text = str(value).strip()
        try:
            return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail("a share such as 5% or 0.05", param, ctx)


class Variants(click.ParamType[int | list[int]]):
    """How many variants, or their shares: 3 or 50:25:25."""

    name = "variants"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | list[int]:
        """The number, or the shares as whole numbers."""
        shares = [int(part) for part in str(value).split(":") if re.fullmatch("[1-9][0-9]{0,8}", part)]
        number = len(shares) if ":" in str(value) else sum(shares)
        if len(shares) <= str(value).count(":") or number not in COUNT:
            self.fail("a number from 2 to 20, or as many shares such as 50:25:25", param, ctx)
        return shares if ":" in str(value) else number


@click.command()
@click.option("--metric", help="An event type, the key of a definition, or a definition as JSON.")
@click.option("--entry", multiple=True, help="An event type by whose first event users would enter; may be repeated.")
@click.option("--experiment", help="Id or key: measure in its control arm.")
@click.option("--history-days", type=int, help=f"How many days --entry looks back; by default {HISTORY}.")
@click.option("--baseline", type=float, help="The value as it is now: a share, or with --sd a mean per user.")
@click.option("--sd", type=float, help="Standard deviation of the users' numbers.")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Kind]),
    help="What --baseline is; by default conversion, with --sd sum.",
)
@click.option("--effect", type=Effect(), help="The smallest relative change that matters: 5% or 0.05.")
@click.option("--absolute-effect", type=float, help="The same in the unit of the value.")
@click.option("--users", type=int, help="How many users there will be: which effect do they show?")
@click.option("--days", type=int, help="How long it will run: which effect will show?")
@click.option("--per-day", type=float, help="New users a day, where they are not measured or will differ.")
@click.option("--variants", type=Variants(), default="2", show_default=True, help="A number, or shares as 50:25:25.")
@click.option("--power", type=float, default=0.8, show_default=True, help="The chance to find the effect.")
@click.option("--alpha", type=float, default=0.05, show_default=True, help="The rate of false alarms.")
@click.option(
    "--stopping",
    type=click.Choice(["fixed", "group_sequential", "always_valid"]),
    default="group_sequential",
    show_default=True,
)
@click.option("--looks", type=int, help="How many group-sequential looks; by default one a day.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole plan as JSON.")
@options.server
def plan(
    *,
    as_json: bool,
    data_dir: Path | None,
    url: str | None,
    token: str | None,
    **said: Any,
) -> None:
    """Plan an experiment: the users and days that an effect needs, or the effect that users or days can show.

    The baseline is given (--baseline), or measured: in an experiment, or among those who caused --entry events.
    """
    wanted = _request(said)
    try:
        if "baseline" in wanted:
            found = PlanAnswer.of(from_given(validated(PlanRequest, wanted).asked())).model_dump(mode="json")
        else:
            found = asyncio.run(_asked(settings.load(data_dir=data_dir), url, token, wanted))
    except UpshotError as error:
        # What is wrong with an option is told by the option's name, whoever found it.
        said_wrong = {option: fault.message for fault in error.faults if (option := _option(fault.pointer))}
        if not said_wrong:
            raise
        raise click.UsageError("; ".join(f"{name}: {message}" for name, message in said_wrong.items())) from None
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _show(found, Console())


def _request(said: dict[str, Any]) -> dict[str, Any]:
    """The body that the options stand for."""
    if (
        sum(bool(source) or source == 0 for source in (said["baseline"], said["experiment"], said["entry"] or None))
        != 1
    ):
        raise click.UsageError("give --baseline, --experiment or --entry, and only one of them")
    asked = (said["effect"], said["absolute_effect"], said["users"], said["days"])
    if said["baseline"] is not None and all(part is None for part in asked):
        raise click.UsageError("give --effect, --users or --days")
    wanted = {
        name: said[name]
        for name in (
            "experiment",
            "history_days",
            "absolute_effect",
            "users",
            "variants",
            "power",
            "alpha",
            "stopping",
            "looks",
        )
    }
    wanted |= {"relative_effect": said["effect"], "run_for_days": said["days"], "entry": list(said["entry"]) or None}
    wanted |= {"users_per_day": said["per_day"], "kind": said["kind"], "metric": _metric(said["metric"])}
    if said["baseline"] is not None:
        wanted["baseline"] = {"value": said["baseline"], "standard_deviation": said["sd"]}
        wanted["kind"] = said["kind"] or ("conversion" if said["sd"] is None else "sum")
    elif said["sd"] is not None:
        raise click.UsageError("--sd belongs to --baseline")
    return {name: value for name, value in wanted.items() if value is not None}


def _option(pointer: str) -> str | None:
    """The option that a fault is about, which may lie within its value."""
    return next((name for place, name in _OPTIONS.items() if f"{pointer}/".startswith(f"{place}/")), None)


def _metric(text: str | None) -> Any:
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise click.UsageError("--metric: the definition is not JSON") from None


async def _asked(chosen: settings.Settings, url: str | None, token: str | None, wanted: dict[str, Any]) -> Any:
    async with connected(chosen, url, token) as client:
        return (await request(client, "POST", "/planner", json=wanted)).json()


def _show(found: dict[str, Any], console: Console) -> None:
    """Print a plan: the answer in a sentence, what it rests on, and a table from few users to twice as many."""
    console.print(_answer(found))
    for line in _grounds(found):
        console.print(line)
    if found["curve"]:
        console.print(_table(found))


def _answer(found: dict[str, Any]) -> str:
    if found["users"] is None:
        return f"[yellow]There is no plan: {_why(found, 'users')}.[/yellow]"
    users = " + ".join(f"{variant['users']:,}" for variant in found["variants"])
    text = f"[bold]{found['users']:,} users[/bold] ({users})"
    if found["days"] is not None:
        text += f" in [bold]{found['days']:,} days[/bold]"
    if found["detectable"]["absolute"] is None:
        return f"{text}: [yellow]no effect can be planned, {_why(found, 'detectable')}.[/yellow]"
    asked = found["power"] is not None
    planned = asked and abs(found["power"] - found["required_power"]) < 0.005
    shown = _change(found, found["effect"] if planned else found["detectable"])
    text += f" show a change of [bold]{shown}[/bold] with {found['required_power']:.0%} power."
    if asked and not planned:
        text += f" One of {_change(found, found['effect'])} they show with {found['power']:.0%} power."
    return text


def _grounds(found: dict[str, Any]) -> list[str]:
    """What the plan rests on, and what it pays for."""
    baseline = found["baseline"]
    per_day = baseline["users_per_day"]
    rate = "users a day unknown" if per_day is None else f"{per_day:,.{0 if per_day >= 10 else 2}f} users a day"
    known = f"{escape(baseline['metric'] or baseline['kind'])} {_value(found, baseline['value'])}, {rate}"
    measured = f", measured on {baseline['users']:,} users" if baseline["users"] is not None else ""
    lines = [known + measured]
    if baseline["variance_reduction"]:
        lines.append(f"What users did before takes out {baseline['variance_reduction']:.1%} of the variance.")
    looks = {"fixed": "one look at the end", "always_valid": "always valid, look at any time"}
    mode = looks.get(found["stopping"], f"group sequential, {found['looks']} looks")
    price = f", at {found['inflation'] - 1:.1%} more users than one look" if found["inflation"] > 1.0005 else ""
    shared = f", {found['alpha_per_comparison']:.3g} per comparison" if found["comparisons"] > 1 else ""
    lines.append(f"{mode}{price}; alpha {found['alpha']:.3g}{shared}")
    if (found["looks"] or 0) > 1 and found["expected_users"] is not None:
        lines.append(f"If the effect is there, a look ends it after {found['expected_users']:,} users on average.")
    if found["exact_days"] is not None:
        lines.append(f"The last of these users has come after {found['exact_days']:,.1f} days.")
    elif found["users"] is not None:
        lines.append(f"How many days that takes: {_why(found, 'days')}.")
    return lines


def _table(found: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    names = ["users", "detectable", "absolute"]
    names = (["days"] if found["days"] is not None else []) + names + (["power"] if found["power"] is not None else [])
    for name in names:
        table.add_column(name, no_wrap=True, justify="right")
    points = found["curve"]
    step = -(-len(points) // ROWS)
    same = [(point["days"], found["days"]) if found["days"] else (point["users"], found["users"]) for point in points]
    plan = next((place for place, (here, planned) in enumerate(same) if here == planned), 0)
    for place, point in enumerate(points):
        if (place - plan) % step == 0:
            cells = {
                "days": f"{point['days'] or 0:,}",
                "users": f"{point['users']:,}",
                "detectable": _percent(point["detectable"]["relative"]),
                "absolute": _number(point["detectable"]["absolute"]),
                "power": "–" if point["power"] is None else f"{point['power']:.1%}",
            }
            table.add_row(*(cells[name] for name in names), style="bold" if place == plan else None)
    return table


def _change(found: dict[str, Any], change: dict[str, Any]) -> str:
    before = found["baseline"]["value"]
    moved = f"{_value(found, before)} → {_value(found, before + change['absolute'])}"
    return moved if change["relative"] is None else f"{_percent(change['relative'])} ({moved})"


def _value(found: dict[str, Any], value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if found["baseline"]["kind"] not in SHARES else f"{value * 100:.4g}%"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:+.3g}%" if abs(share) < 10 else f"{share * 100:+,.0f}%"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4g}"


def _why(found: dict[str, Any], name: str) -> str:
    code = str(found["reasons"].get(name, ""))
    return _REASONS.get(code, code.replace("_", " "))
