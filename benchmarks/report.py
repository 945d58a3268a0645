"""What a question found, as a table, and the page that all of them make up."""

import importlib
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parent / "RESULTS.md"
_LIBRARIES = ("duckdb", "fastapi", "httptools", "msgspec", "numpy", "rocksdict", "sqlalchemy", "uvicorn", "uvloop")
_HEAD = (
    "# Benchmarks\n\nWritten by `make bench`. Ratios are medians over neighbouring runs; absolute figures drift here.\n"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `reached` is None where there is no goal."""

    what: str
    ours: str
    yardstick: str
    ratio: str
    goal: str = ""
    reached: bool | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The answer to one question."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=list)

    def text(self, explanation: str) -> str:
        """The section of the page; `explanation` is the docstring of the question."""
        lines = [f"## {self.title}", "", " ".join(explanation.split()), "", _circumstances(), ""]
        lines += ["| what | ours | yardstick | ratio | goal | reached |", "|---|---|---|---|---|---|"]
        for row in self.rows:
            reached = "" if row.reached is None else "yes" if row.reached else "**no**"
            lines.append(f"| {row.what} | {row.ours} | {row.yardstick} | {row.ratio} | {row.goal} | {reached} |")
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"


def at_least(what: str, ours: str, yardstick: str, ratio: float, bound: float | None = None) -> Row:
    """A row whose ratio should be high."""
    goal = "" if bound is None else f"≥ {bound:g}"
    return Row(what, ours, yardstick, f"{ratio:.2f}", goal, None if bound is None else ratio >= bound)


def at_most(what: str, ours: str, yardstick: str, ratio: float, bound: float | None = None) -> Row:
    """A row whose ratio should be low."""
    goal = "" if bound is None else f"≤ {bound:g}"
    return Row(what, ours, yardstick, f"{ratio:.2f}", goal, None if bound is None else ratio <= bound)


def bounded(what: str, ours: float, unit: str, bound: float, yardstick: str = "", ratio: str = "") -> Row:
    """A row whose own figure has a bound, whatever the yardstick does."""
    return Row(what, f"{ours:,.3g} {unit}", yardstick, ratio, f"≤ {bound:g} {unit}", ours <= bound)


def answer(name: str, *, quick: bool) -> str:
    """Run the question of that name; returns its section of the page."""
    question = importlib.import_module(f"benchmarks.{name}")
    table: Table = question.run(quick=quick)
    return table.text(question.__doc__ or "")


def write(sections: Sequence[str]) -> None:
    """Put sections into the page, each in the place of the one with the same title."""
    old = re.split(r"(?m)^(?=## )", PAGE.read_text())[1:] if PAGE.exists() else []
    kept = {_title(section): section for section in old} | {_title(section): section for section in sections}
    PAGE.write_text("\n".join([_HEAD, *(kept[title].rstrip() + "\n" for title in sorted(kept))]))


def _title(section: str) -> str:
    return section.partition("\n")[0]


def _circumstances() -> str:
    """When, from which commit, on what."""
    commit = _git("rev-parse", "--short", "HEAD") + (" with changes" if _git("status", "--porcelain", "src") else "")
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when} · commit {commit} · {os.cpu_count()} cores · Python {platform.python_version()} · {libraries}"


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=PAGE.parent, capture_output=True, text=True, check=False)
    return found.stdout.strip()
