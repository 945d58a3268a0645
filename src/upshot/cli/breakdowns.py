"""The breakdowns of a result in the terminal: over time, by segments, beside another experiment."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upshot.cli.tables import lifted, numeral

Row = Sequence[str]


def show(found: dict[str, Any], console: Console) -> None:
    """Print what was asked for beside the result itself."""
    level = f"{100 * found['confidence_level']:g} %"
    for name, points in groupby(found["cumulative"] or [], key=lambda point: (point["metric"], point["variant"])):
        console.print(_over_time(*name, list(points), level))
    for attribute, segments in groupby(found["segments"], key=lambda segment: segment["attribute"]):
        for table in _segments(attribute, list(segments), level):
            console.print(table)
    for difference in found["segment_differences"] or []:
        console.print(_difference(difference))
    if found["interactions"] is not None:
        console.print(_interactions(found["interactions"], level))


def _over_time(metric: str, variant: str, points: list[dict[str, Any]], level: str) -> Table:
    """The lift as it stood at the end of each period; all its intervals hold together."""
    rows = [
        (
            point["period"][:16].replace("T", " "),
            f"{point['users']:,}",
            *lifted(point["relative_lift"], point["relative_interval"]),
            numeral(point["p_value"]),
        )
        for point in points
    ]
    title = f"{metric}, {variant}: as it stood at the end of each period"
    return _table(title, ("from", "users", "lift", f"{level}, at every look", "p-value"), rows)


def _segments(attribute: str, segments: list[dict[str, Any]], level: str) -> Iterable[Table]:
    """One table per metric and variant."""
    names = dict.fromkeys((c["metric"], c["variant"]) for segment in segments for c in segment["comparisons"])
    for metric, variant in names:
        rows = []
        for segment in segments:
            found = next(c for c in segment["comparisons"] if (c["metric"], c["variant"]) == (metric, variant))
            rows.append(
                (
                    "(none)" if segment["value"] is None else segment["value"],
                    f"{segment['users']:,}",
                    *lifted(found["relative_lift"], found["relative_interval"]),
                    numeral(found["adjusted_p_value"]),
                    found["confidence"] or (found["reason"] or "").replace("_", " "),
                )
            )
        columns = (attribute, "users", "lift", f"{level} interval", "adjusted p", "verdict")
        yield _table(f"{metric}, {variant}, by {attribute}", columns, rows)


def _difference(found: dict[str, Any]) -> str:
    where = f"{escape(found['metric'])}, {escape(found['variant'])}, by {escape(found['attribute'])}"
    if found["differs"] is None:
        return f"{where}: too little to say whether the effect differs."
    verdict = (
        "the effect differs" if found["differs"] else "no sign that the effect differs; single segments are exploratory"
    )
    return f"{where}: {verdict} (adjusted p = {numeral(found['adjusted_p_value'])})."


def _interactions(found: list[dict[str, Any]], level: str) -> Table:
    rows = []
    for part in found:
        interval = part["interval"]
        bounds = f"{interval['lower']:+.4g} … {interval['upper']:+.4g}" if interval else "–"
        verdict = {True: "they depend", False: "no sign", None: (part["reason"] or "").replace("_", " ")}[
            part["interacts"]
        ]
        names = (part["metric"], part["variant"], f"{part['experiment']}: {part['other_variant']}")
        rows.append(
            (
                *names,
                f"{part['users']:,}",
                numeral(part["estimate"]),
                bounds,
                numeral(part["adjusted_p_value"]),
                verdict,
            )
        )
    columns = ("metric", "variant", "beside", "users", "difference", f"{level} interval", "adjusted p", "verdict")
    return _table("Does the effect depend on the other experiment?", columns, rows)


def _table(title: str, columns: Sequence[str], rows: Iterable[Row]) -> Table:
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    texts = {columns[0], "verdict", "variant", "beside"}
    for name in columns:
        table.add_column(escape(name), no_wrap=True, justify="left" if name in texts else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
