"""A real published experiment: the e-mail campaign that MineThatData published in 2008 as a public challenge.

64,000 customers who had bought within a year were divided at random among three arms: no e-mail, an e-mail about men's
merchandise, an e-mail about women's. For two weeks it was recorded who visited the site, who bought, and for how much. The data
were published for anyone to analyse, without an explicit licence; `hillstrom.parquet` holds them unchanged, in compact form.

Only the times are ours: the data say "within two weeks", so each customer's are spread evenly, the same in every run.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any

import duckdb
import msgspec

ABOUT = "The Hillstrom e-mail campaign (MineThatData, 2008): 64,000 customers, three arms, two weeks."

_VARIANTS = {"No E-Mail": "no_email", "Mens E-Mail": "mens_email", "Womens E-Mail": "womens_email"}
_CONTEXT = ("channel", "zip_code", "history_segment", "newbie", "recency")

Row = dict[str, Any]


def load() -> list[Row]:
    """The 64,000 customers."""
    cursor = duckdb.connect().execute(
        "SELECT * FROM read_parquet($1)", [str(files("upshot.demo") / "hillstrom.parquet")]
    )
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def experiment(key: str) -> dict[str, Any]:
    """The experiment, as a request creates it."""
    return {
        "key": key,
        "name": "E-mail campaign (Hillstrom, 2008)",
        "hypothesis": "An e-mail brings customers back to the site and makes them buy.",
        "primary_metric": "visit",
        "metrics": ["conversion", {"key": "spend", "kind": "sum", "event_type": "conversion"}],
        "variants": [{"name": name, "weight": 1} for name in _VARIANTS.values()],
    }


def assignments(data: list[Row], start: datetime) -> Iterator[bytes]:
    """Every customer's assignment, within the first day, as NDJSON."""
    for number, row in enumerate(data):
        yield _line(
            user_id=_user(number),
            variant=_VARIANTS[row["segment"]],
            assigned_at=_assigned_at(start, number),
            context={name: row[name] for name in _CONTEXT},
        )


def events(data: list[Row], start: datetime) -> Iterator[bytes]:
    """Every visit and every purchase, as NDJSON; a purchase carries what was spent."""
    for number, row in enumerate(data):
        visited_at = _assigned_at(start, number) + timedelta(seconds=number * 7919 % (13 * 86_400))
        if row["visit"]:
            yield _line(user_id=_user(number), event_type="visit", timestamp=visited_at, event_id=f"visit-{number}")
        if row["conversion"]:
            yield _line(
                user_id=_user(number),
                event_type="conversion",
                timestamp=visited_at + timedelta(minutes=10),
                event_id=f"conversion-{number}",
                properties={"revenue": row["spend"], "currency": "USD"},
            )


def event_count(data: list[Row]) -> int:
    """How many events there are."""
    return sum(row["visit"] + row["conversion"] for row in data)


def _user(number: int) -> str:
    return f"customer-{number + 1}"


def _assigned_at(start: datetime, number: int) -> datetime:
    return start + timedelta(seconds=number % 86_400)


def _line(**fields: Any) -> bytes:
    return msgspec.json.encode(fields) + b"\n"
