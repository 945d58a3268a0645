"""A result as a table in the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_COLOURS = {"ship": "green", "stop_loss": "red", "stop_harm": "red", "do_not_trust": "red"}
_SHARES = {"conversion", "retention", "threshold", "funnel"}


def show(found: dict[str, Any], console: Console) -> None:
    """Print a result: the answer first, then one table per metric."""
    experiment, summary, health = found["experiment"], found["summary"], found["health"]
    colour = _COLOURS.get(summary["recommendation"], "yellow")
    days, users, events = experiment["days_running"] or 0, summary["total_users"], summary["total_events"]
    title = f"\n[bold]{escape(experiment['name'])}[/bold] ({escape(experiment['key'])})"
    console.print(f"{title} is {experiment['status']}: {days:.1f} days, {users:,} users, {events:,} events")
    sure = f" Confidence: {summary['confidence']}." if summary["confidence"] else ""
    recommendation = summary["recommendation"].replace("_", " ")
    console.print(f"[bold {colour}]{recommendation}[/]: {escape(summary['reason'])}{sure}")
    for line in _waiting(summary):
        console.print(line)
    console.print(_stopping(found["plan"]))
    ratio = health["sample_ratio"]
    if ratio["p_value"] is not None:
        console.print(f"sample ratio {'as planned' if ratio['ok'] else 'MISMATCH'} (p = {ratio['p_value']:.4f})")
    for line in _loss(health["event_loss"]):
        console.print(line)
    for warning in health["warnings"]:
        console.print(f"[yellow]{escape(warning['message'])}[/yellow]")
    for metric in found["variants"][0]["metrics"]:
        console.print(_table(found, metric))


def _loss(found: dict[str, Any] | None) -> list[str]:
    """What was lost of numbered events, where there are any."""
    if found is None:
        return []
    rates = ", ".join(
        f"{escape(name)} {'–' if part['rate'] is None else format(part['rate'], '.2%')}"
        for name, part in found["variants"].items()
    )
    return [f"events lost: {rates}{'' if found['ok'] else ' (they DIFFER)'}"]


def _waiting(summary: dict[str, Any]) -> list[str]:
    """When to look again, and what the days until then may cost."""
    found = []
    if summary["decide_at"] is not None:
        found.append(
            f"Expected to be decided on {summary['decide_at'][:10]}, after {summary['users_needed']:,} more users."
        )
    cost = summary["cost_of_waiting"]
    if cost is not None:
        found.append(
            f"If the difference is real, a day of waiting costs {cost['per_day']:,.4g} in {escape(cost['metric'])}"
            f" ({cost['users_per_day']:,.0f} users a day)."
        )
    return found


def _stopping(plan: dict[str, Any]) -> str:
    """What words rest on."""
    planned = "" if plan["planned_users"] is None else f", {plan['planned_users']:,} users planned"
    look = plan["look"]
    looked = "" if look is None else f"; look {len(look['fractions'])} at {look['fractions'][-1]:.0%} of them"
    return f"Stopping: {plan['stopping'].replace('_', ' ')}, alpha {plan['alpha']:g}{planned}{looked}."


def _table(found: dict[str, Any], metric: str) -> Table:
    kind = found["variants"][0]["metrics"][metric]["kind"]
    table = Table(
        title=f"{escape(metric)} ({kind})", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    level = f"{100 * found['confidence_level']:g} % interval"
    for name in ("variant", "users", "value", "lift", level, "p-value", "verdict"):
        table.add_column(name, no_wrap=True, justify="left" if name in {"variant", "verdict"} else "right")
    compared = {c["variant"]: c for c in found["comparisons"] if c["metric"] == metric}
    for variant in found["variants"]:
        value = variant["metrics"][metric]
        cells = [escape(variant["name"]), f"{value['sample_size']:,}", _value(value["value"], kind)]
        table.add_row(*cells, *_against_control(compared.get(variant["name"])))
    return table


def _against_control(comparison: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if comparison is None:
        return "control", "", "", ""
    verdict = comparison["confidence"] or (comparison["reason"] or "").replace("_", " ")
    lift, bounds = lifted(comparison["relative_lift"], comparison["relative_interval"])
    return lift, bounds, numeral(comparison["p_value"]), verdict


def lifted(lift: float | None, interval: dict[str, float | None] | None) -> tuple[str, str]:
    """A lift and its interval, in percent."""
    bounds = f"{_bound(interval['lower'])} … {_bound(interval['upper'])}" if interval else "–"
    return "–" if lift is None else f"{lift:+.1%}", bounds


def numeral(value: float | None) -> str:
    """A number to three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"


def _value(value: float | None, kind: str) -> str:
    if value is None:
        return "–"
    return f"{value:.4%}" if kind in _SHARES else f"{value:.6f}"


def _bound(share: float | None) -> str:
    """A bound of a lift, with a decimal where it matters."""
    if share is None:
        return "∞"
    return f"{share:+.0%}" if abs(share) >= 0.1 else f"{share:+.1%}"
