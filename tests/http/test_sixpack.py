"""Sixpack's door: the requests of Sixpack's clients, and results of what they did."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.servers import TOKEN, UNLIMITED, asking

from upshot.http.app import create_app
from upshot.settings import Settings

PARTICIPATE = "/participate?experiment=button%20color&alternatives=red&alternatives=blue&client_id="


@pytest.fixture
async def door(data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An application whose door is open, asked without a credential."""
    app = create_app(Settings(data_dir=data_dir, sixpack_client="first", **UNLIMITED), {TOKEN: "first"})
    async with asking(app, None) as client:
        yield client


def manager(door: httpx.AsyncClient) -> dict[str, Any]:
    """The headers of whoever manages the client's experiments."""
    return {"Authorization": f"Bearer {TOKEN}"}


async def test_participate_and_convert_as_sixpack_has_them(door: httpx.AsyncClient) -> None:
    """The experiment is made by the first request; a conversion is counted once per client."""
    first = [(await door.get(PARTICIPATE + f"user-{n}")).json() for n in range(20)]
    again = [(await door.get(PARTICIPATE + f"user-{n}")).json() for n in range(20)]
    for _ in range(2):
        converted = [
            (await door.get(f"/convert?experiment=button%20color&client_id=user-{n}")).json() for n in range(5)
        ]
    kpi = (await door.get("/convert?experiment=button%20color&client_id=user-1&kpi=sold")).json()
    results = (await door.get("/experiments/button-color/results", headers=manager(door))).json()

    assert first == again
    assert {each["alternative"]["name"] for each in first} == {"red", "blue"}
    assert first[0].keys() == {"status", "alternative", "experiment", "client_id"}
    assert [each["alternative"] for each in converted] == [each["alternative"] for each in first[:5]]
    assert (kpi["status"], kpi["conversion"]) == ("ok", {"value": None, "kpi": "sold"})
    assert results["experiment"]["primary_metric"] == "button-color:convert"
    assert results["summary"]["total_users"] == 20
    assert sum(arm["event_counts"].get("button-color:convert", 0) for arm in results["variants"]) == 5


async def test_a_forced_alternative_is_shown_and_nothing_stored(door: httpx.AsyncClient) -> None:
    """And one that is none is refused."""
    forced = (await door.get(PARTICIPATE + "u&force=blue")).json()
    none = await door.get(PARTICIPATE + "u&force=green")

    assert forced["alternative"]["name"] == "blue"
    assert (none.status_code, none.json()["status"]) == (400, "failed")
    assert (await door.get("/convert?experiment=button%20color&client_id=u")).json()["status"] == "failed"


async def test_who_takes_no_part_gets_the_control_and_later_the_winner(door: httpx.AsyncClient) -> None:
    """By the traffic fraction, or because it is over."""
    outside = [(await door.get(PARTICIPATE + f"u{n}&traffic_fraction=0.1")).json() for n in range(40)]
    stored = (await door.get("/experiments/button-color", headers=manager(door))).json()
    await door.post("/experiments/button-color/complete", json={"winner": "blue"}, headers=manager(door))
    later = (await door.get(PARTICIPATE + "somebody-new")).json()

    assert stored["traffic_percentage"] == 10
    assert sum(each["alternative"]["name"] == "red" for each in outside) > 30
    assert later["alternative"]["name"] == "blue"


@pytest.mark.parametrize(
    "path",
    [
        "/participate",
        "/participate?experiment=x&alternatives=a&client_id=u",
        "/participate?experiment=X!&alternatives=a&alternatives=b&client_id=u",
        "/participate?experiment=x&alternatives=a&alternatives=b&client_id=null",
        "/participate?experiment=x&alternatives=a&alternatives=a&client_id=u",
        "/convert?experiment=none&client_id=u",
        "/convert?experiment=none",
    ],
)
async def test_what_is_wrong_is_a_failure_in_sixpacks_form(door: httpx.AsyncClient, path: str) -> None:
    """400, with a message; nothing is made."""
    response = await door.get(path)

    assert response.status_code == 400
    assert response.json().keys() == {"status", "message"}
    assert (await door.get("/experiments", headers=manager(door))).json()["experiments"] == []


async def test_other_alternatives_than_before_are_a_failure(door: httpx.AsyncClient) -> None:
    """An experiment is what it was when it was made."""
    await door.get(PARTICIPATE + "u")

    other = await door.get("/participate?experiment=button%20color&alternatives=red&alternatives=green&client_id=u")

    assert (other.status_code, other.json()["message"]) == (400, "the experiment has other alternatives")


async def test_the_door_is_closed_unless_a_setting_opens_it(api: httpx.AsyncClient) -> None:
    """Whatever credential is shown."""
    for path in (PARTICIPATE + "u", "/convert?experiment=x&client_id=u"):
        response = await api.get(path)

        assert (response.status_code, response.json()["status"]) == (400, "failed")
    assert (await api.get("/experiments")).json()["experiments"] == []
