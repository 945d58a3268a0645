"""The thin lane in front of FastAPI: the same bytes as the route, and never an answer that is not true any more."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest
from tests.http.world import WITHIN
from tests.servers import TOKEN, UNLIMITED, asking

from upshot.http import assignments
from upshot.http.app import create_app
from upshot.http.assignments import AssignmentLane
from upshot.settings import Settings

ARMS = [{"name": "control"}, {"name": "blue"}]
PATH = "/experiments/e/assignment/"


async def prepare(api: httpx.AsyncClient) -> None:
    """The experiment that is asked for."""
    (await api.post("/experiments", json={"name": "e", "key": "e", "variants": ARMS})).raise_for_status()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every answer that the lane had in bytes, whether it still held."""
    found: list[bool] = []
    honest = AssignmentLane._holds

    def noted(self: AssignmentLane, known: assignments._Told) -> bool:
        found.append(honest(self, known))
        return found[-1]

    monkeypatch.setattr(AssignmentLane, "_holds", noted)
    return found


@pytest.mark.parametrize("target", ["u1", "u%201", "%C3%BC?country=US&plan=pro", "u1?country=DE"])
async def test_the_lane_and_the_route_give_the_same_bytes(
    api: httpx.AsyncClient, told: list[bool], target: str
) -> None:
    """The first time, the second, and when the lane tells what it remembers; headers, too."""
    await prepare(api)
    first = (await api.get(PATH + target)).json()
    answers = [await api.get(PATH + target) for _ in range(3)]
    route = await api.get(PATH + target, headers={"Authorization": f"bearer  {TOKEN}"})
    several = await api.get(f"/experiments/e/assignment/{target}", headers={"X-Request-Id": "mine"})

    assert first["is_new"]
    assert len({answer.content for answer in (*answers, route, several)}) == 1
    assert json.loads(answers[0].content) == first | {"is_new": False}
    assert told.count(True) >= 2
    assert several.headers["x-request-id"] == "mine"


async def test_what_has_changed_is_not_told_again(api: httpx.AsyncClient, told: list[bool]) -> None:
    """An override, a renamed experiment, a revoked key: the next answer is the true one; a lane that does not look is caught."""
    await prepare(api)
    key = (await api.post("/api-keys", json={"name": "k", "scopes": ["assign"]})).json()
    by_key = {"Authorization": f"Bearer {key['key']}"}
    for headers in ({}, by_key):
        for _ in range(3):
            before = (await api.get(PATH + "u1", headers=headers)).json()
    other = {"control": "blue", "blue": "control"}[before["variant"]["name"]]

    await api.patch("/experiments/e", json={"overrides": [{"variant": other, "users": ["u1"]}]})
    overridden = (await api.get(PATH + "u1")).json()
    await api.patch("/experiments/e", json={"overrides": []})
    again = (await api.get(PATH + "u1")).json()
    await api.delete(f"/api-keys/{key['id']}")
    deadline = time.monotonic() + WITHIN
    while (revoked := await api.get(PATH + "u1", headers=by_key)).status_code == 200 and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)

    assert (overridden["variant"]["name"], overridden["reason"]) == (other, "overridden")
    assert again == before
    assert revoked.status_code == 401
    assert False in told


async def test_a_lane_that_does_not_look_is_caught(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what was told once is told for ever."""

    monkeypatch.setattr(AssignmentLane, "_holds", lambda _lane, _told: True)
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED), {TOKEN: "first"})
    async with asking(app) as api:
        await prepare(api)
        for _ in range(3):
            await api.get(PATH + "u1")
        await api.patch("/experiments/e", json={"overrides": [{"variant": "blue", "users": ["u1"]}]})

        assert (await api.get(PATH + "u1")).json()["reason"] == "assigned"


async def test_the_lane_remembers_so_many_answers_and_no_more(
    api: httpx.AsyncClient, told: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those asked least recently make room."""
    monkeypatch.setattr(assignments, "REMEMBERED", 2)
    await prepare(api)
    for user in ("a", "b", "c", "c"):
        await api.get(PATH + user)
        await api.get(PATH + user)
    told.clear()

    for user in ("c", "b", "a"):
        await api.get(PATH + user)

    assert told == [True, True]


async def test_a_quota_holds_for_what_is_remembered(data_dir: Path) -> None:
    """The lane charges as the route does."""
    limits = UNLIMITED | {"limit_assignments": "1/min burst 5"}
    app = create_app(Settings(data_dir=data_dir, **limits), {TOKEN: "first"})
    async with asking(app) as api:
        await prepare(api)

        statuses = [(await api.get(PATH + "u1")).status_code for _ in range(8)]

    assert statuses == [200] * 5 + [429] * 3
