"""Numbered events over HTTP: what is missing in one arm is noticed, and locks the result."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from rich.console import Console

from upshot.cli import tables

START = datetime(2026, 3, 2, tzinfo=UTC)
USERS = 400
EVENTS = 5
LOSING = 160


async def sent(api: httpx.AsyncClient, losing: dict[str, int], *, numbered: bool = True) -> Any:
    """The result of an experiment whose users cause three events each, of which so many users of a variant lose the second one.

    A session begins before the exposure, with two events of which the first is lost in every variant.
    """
    made = (await api.post("/experiments", json={"name": "L", "primary_metric": "buy",
                                                "variants": [{"name": "a"}, {"name": "b"}]})).json()  # fmt: skip
    rows = [
        {"user_id": f"{arm}{n}", "variant": arm, "assigned_at": START.isoformat(), "context": {"land": "x"}}
        for arm in "ab"
        for n in range(USERS)
    ]
    assert (await api.post(f"/experiments/{made['id']}/import", json={"assignments": rows})).is_success
    events = [
        {
            "user_id": f"{arm}{n}",
            "type": "buy" if sequence == EVENTS and (arm == "b" or n % 3) else "view",
            "timestamp": (START + timedelta(hours=sequence - 2.5)).isoformat(),
            **({"session_id": "tab", "sequence": sequence} if numbered else {}),
        }
        for arm in "ab"
        for n in range(USERS)
        for sequence in range(2, EVENTS + 1)
        if sequence != EVENTS - 1 or n >= losing[arm]
    ]
    taken = await api.post("/events/batch", json=events)
    assert taken.json() == {"accepted": len(events), "duplicates": 0, "conflicts": 0, "rejected": []}
    end = (START + timedelta(days=1)).isoformat().replace("+", "%2B")
    found = await api.get(f"/experiments/{made['id']}/results?end_date={end}&group_by=land")
    assert found.is_success, found.text
    return found.json()


def shown(result: Any) -> str:
    """The result as the command line prints it."""
    printed = io.StringIO()
    tables.show(result, Console(file=printed, width=200))
    return printed.getvalue()


async def test_events_that_are_lost_in_one_arm_only_lock_the_result(api: httpx.AsyncClient) -> None:
    """The rates are shown, no comparison gets a word, of segments neither, and the reason is said in plain words."""
    found = await sent(api, {"a": 0, "b": LOSING})

    loss, summary = found["health"]["event_loss"], found["summary"]
    assert (loss["ok"], loss["variants"]["a"]["rate"]) == (False, 0)
    assert {name: (part["lost"], part["sent"]) for name, part in loss["variants"].items()} == {
        "a": (0, USERS * (EVENTS - 2)),
        "b": (LOSING, USERS * (EVENTS - 2)),
    }
    [compared] = loss["comparisons"]
    assert compared["difference"] == loss["variants"]["b"]["rate"] == pytest.approx(LOSING / USERS / (EVENTS - 2))
    assert compared["always_valid_p_value"] < 0.001
    assert {"event_loss", "event_loss_differs"} <= {warning["code"] for warning in found["health"]["warnings"]}
    assert summary["recommendation"] == "do_not_trust"
    assert "lost" in summary["reason"]
    comparisons = [*found["comparisons"], *(c for part in found["segments"] for c in part["comparisons"])]
    assert {(c["significant"], c["confidence"], c["reason"]) for c in comparisons} == {(None, None, "event_loss")}
    assert "events lost: a 0.00%, b 13.33% (they DIFFER)" in shown(found)


async def test_what_all_arms_lose_is_shown_and_locks_nothing(api: httpx.AsyncClient) -> None:
    """A caution, and the result stands."""
    found = await sent(api, {"a": LOSING, "b": LOSING})

    codes = {warning["code"] for warning in found["health"]["warnings"]}
    assert (found["health"]["event_loss"]["ok"], codes & {"event_loss", "event_loss_differs"}) == (True, {"event_loss"})
    assert found["summary"]["recommendation"] == "ship"
    assert "events lost: a 13.33%, b 13.33%\n" in shown(found)


@pytest.mark.parametrize("numbered", [True, False])
async def test_where_nothing_is_lost_or_numbered_nothing_is_said(api: httpx.AsyncClient, numbered: bool) -> None:  # noqa: FBT001
    """Rates of 0, or null; no caution either way."""
    found = await sent(api, {"a": 0, "b": 0}, numbered=numbered)

    loss = found["health"]["event_loss"]
    assert (loss and [part["rate"] for part in loss["variants"].values()]) == ([0, 0] if numbered else None)
    assert not [w for w in found["health"]["warnings"] if w["code"].startswith("event_loss")]
    assert found["summary"]["recommendation"] == "ship"
    assert ("events lost" in shown(found)) is numbered


async def test_a_number_without_a_session_is_refused_and_the_others_are_taken(api: httpx.AsyncClient) -> None:
    """By its place, with its code; a number that is none by its shape."""
    good: dict[str, Any] = {"user_id": "u", "type": "buy", "session_id": "s", "sequence": 1}
    wrong: list[dict[str, Any]] = [
        {"sequence": None},
        {"session_id": None},
        {"sequence": 0},
        {"sequence": "1"},
        {"sequence": 2**64},
    ]

    answer = (await api.post("/events", json=[good, *(good | change for change in wrong)])).json()

    assert answer["accepted"] == 1
    assert [(part["index"], part["pointer"], part["code"]) for part in answer["rejected"]] == [
        (1, "/sequence", "missing"),
        (2, "/session_id", "missing"),
        (3, "/sequence", "out_of_range"),
        (4, "/sequence", "bad_shape"),
        (5, "/sequence", "out_of_range"),
    ]
