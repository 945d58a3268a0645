"""Pages for people: from a result, an experiment or a list to HTML. Pure; what is shown is asked for in `http/dashboard.py`.

figures    numbers and moments as people read them
verdicts   a result in words
charts     numbers as SVG
templates/ one page each, on base.html; parts that a page loads later begin with an underscore
assets/    the stylesheet and the script of all pages
"""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from upshot.dashboard import charts, figures, verdicts

ASSETS = Path(__file__).parent / "assets"


_FILTERS = (
    "ago",
    "count",
    "day",
    "days",
    "hour",
    "moment",
    "number",
    "of_micros",
    "p_value",
    "percent",
    "plain",
    "value",
    "words",
)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {name: getattr(figures, name) for name in _FILTERS}
    made.globals |= {"charts": charts, "verdicts": verdicts}
    return made


def page(name: str, **shown: Any) -> str:
    """The HTML of a page, or of a part of one (a name that begins with an underscore)."""
    return _environment().get_template(f"{name}.html").render(shown)
