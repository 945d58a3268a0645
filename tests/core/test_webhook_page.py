"""The page on webhooks is true: its payloads are those of the code, and its ten lines verify what is sent."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.core.notices import notices

from upshot import webhooks
from upshot.webhooks import DELAYS, DisabledBy, Failure, Form, Occasion, deliveries, destinations

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
SECRET = webhooks.secret_of(bytes(range(24)))
FORMER = webhooks.secret_of(bytes(range(32)))


def blocks(language: str) -> list[str]:
    """The examples of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def payload(occasion: Occasion, form: Form = Form.STANDARD) -> dict[str, Any]:
    """What is sent."""
    document: dict[str, Any] = json.loads(webhooks.payload_of(notices()[occasion], form))
    return document


def facts(occasion: Occasion) -> dict[str, Any]:
    """What an occasion adds to the experiment."""
    return {name: value for name, value in payload(occasion)["data"].items() if name != "experiment"}


def test_the_examples_are_what_is_sent() -> None:
    """One whole payload, what each occasion adds to it, and a message for people."""
    assert [json.loads(block) for block in blocks("json")] == [
        payload(Occasion.STARTED), facts(Occasion.CHANGED), facts(Occasion.BREACHED), facts(Occasion.MISMATCHED),
        payload(Occasion.STARTED, Form.SLACK),
    ]  # fmt: skip


def test_the_lines_of_the_page_verify_what_is_sent() -> None:
    """They are ten at most, need no library, and take nothing else."""
    (code,) = blocks("python")
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102 - the page is ours
    is_genuine: Callable[[dict[str, str], bytes, str], bool] = scope["is_genuine"]
    now, body = datetime.now(UTC), b'{"a":1}'

    signed = webhooks.signed_headers("m1", now, body, [SECRET, FORMER])

    assert len([line for line in code.splitlines() if line]) <= 10
    assert is_genuine(signed, body, SECRET)
    assert is_genuine(signed, body, FORMER)
    assert not is_genuine(signed, body + b" ", SECRET)
    assert not is_genuine(signed | {"webhook-id": "m2"}, body, SECRET)
    assert not is_genuine(signed | {"webhook-signature": "v1,é"}, body, SECRET)
    assert not is_genuine(webhooks.signed_headers("m1", now - timedelta(minutes=6), body, [SECRET]), body, SECRET)


def test_the_words_of_the_page_are_those_of_the_code() -> None:
    """Occasions, reasons, ports, names inside and the schedule: none is missing and none is made up."""
    rows = set(re.findall(r"^\| `([a-z_.]+)` \|(?! when)", PAGE, re.MULTILINE))
    units = {1: "s", 60: "min", 3600: "h"}
    delays = [delay.total_seconds() for delay in DELAYS[1:]]
    words = [f"{d / u:.0f} {units[u]}" for d in delays for u in [max(unit for unit in units if d >= unit)]]

    assert rows == set(Occasion) | set(Failure)
    assert all(f"`{reason}`" in PAGE for reason in set(DisabledBy) - {DisabledBy.USER})
    assert f"then {', '.join(words[:-1])} and {words[-1]} after" in " ".join(PAGE.split())
    assert "443, 8443 or 9443" in PAGE
    assert destinations.PORTS == (443, 8443, 9443)
    assert all(f"`{name}`" in PAGE for name in destinations._INSIDE)
    assert (deliveries.PATIENCE.days, f"{destinations.LENGTH:,} characters" in PAGE) == (3, True)
