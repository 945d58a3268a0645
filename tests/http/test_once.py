"""Changes that are asked for with an `Idempotency-Key`: made once, and answered again with what was answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.callers import stored_in
from tests.http.world import advance, bearer, standing_still, stores_of
from tests.servers import OTHER_TOKEN, TOKEN

from upshot.control import Transaction
from upshot.control.sqlanswers import SqlAnswers
from upshot.errors import Unavailable
from upshot.http.envelope import Envelope
from upshot.operations import once, schedule

EXPERIMENT = {"name": "Button", "key": "button", "status": "draft", "variants": [{"name": "a"}, {"name": "b"}]}
REPEATED = "idempotency-replayed"


@pytest.fixture
async def app(data_dir: Path) -> AsyncIterator[Envelope]:
    """An application whose clock stands still."""
    async with standing_still(data_dir, {TOKEN: "first", OTHER_TOKEN: "second"}) as made:
        yield made


@pytest.fixture
async def web(app: Envelope) -> AsyncIterator[httpx.AsyncClient]:
    """The client "first", who gets an answer also to what fails."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://upshot", headers=bearer(TOKEN)) as client:
        yield client


async def ask(web: httpx.AsyncClient, path: str, content: Any = None, key: str = "k", **headers: str) -> httpx.Response:
    """A POST with a key."""
    return await web.post(path, json=content, headers={"Idempotency-Key": key, **headers})


async def names(web: httpx.AsyncClient) -> list[str]:
    """The keys of all experiments."""
    return [each["key"] for each in (await web.get("/experiments")).json()["experiments"]]


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/experiments", EXPERIMENT, 201),
        ("/experiments/there/start", None, 200),
        ("/experiments/there/shares", {}, 201),
        ("/flags", {"key": "f", "type": "boolean", "default": False}, 201),
        ("/layers", {"key": "l"}, 201),
        ("/holdouts", {"key": "h", "percentage": 10}, 201),
        ("/metric-definitions", {"kind": "conversion", "event_type": "buy"}, 201),
        ("/users", {"email": "ann@example.com", "role": "viewer"}, 201),
        ("/api-keys", {"name": "shop", "scopes": ["assign"]}, 201),
        ("/webhooks", {"url": "https://example.com/hook", "occasions": ["experiment.started"]}, 201),
    ],
)
async def test_what_is_asked_again_is_done_once(web: httpx.AsyncClient, path: str, content: Any, status: int) -> None:
    """Same status, body and place, marked as said before; the audit log has it once. Without a key it is asked for twice."""
    assert (await web.post("/experiments", json=EXPERIMENT | {"key": "there"})).status_code == 201
    before = len((await web.get("/audit")).json()["entries"])

    first = await ask(web, path, content)
    done = len((await web.get("/audit")).json()["entries"])
    second = await ask(web, path, content)

    assert first.status_code == second.status_code == status, first.text
    assert first.content == second.content
    assert first.headers.get("location") == second.headers.get("location")
    assert first.headers["content-type"] == second.headers["content-type"]
    assert REPEATED not in first.headers
    assert second.headers[REPEATED] == "true"
    assert before < done == len((await web.get("/audit")).json()["entries"])


async def test_every_change_by_post_takes_a_key(app: Envelope) -> None:
    """OpenAPI names the header wherever something is made or moved by POST; events and assignments are told apart by themselves,
    GrowthBook's features are taken over once, sign-ins and codes are not to be repeated, plans change nothing."""
    paths = app.application.openapi()["paths"]
    without = {
        path
        for path, operations in paths.items()
        if "post" in operations
        and "idempotency-key" not in {each["name"] for each in operations["post"].get("parameters", ())}
    }

    assert {path for path in without if not path.startswith(("/auth/", "/ofrep/"))} == {
        "/assignments",
        "/experiments/{experiment_id}/assignments",
        "/identities",
        "/me/factor/recovery-codes",
        "/me/factor/removal",
        "/import/growthbook",
        "/exposures",
        "/planner",
    }


async def test_a_key_stands_for_one_request(web: httpx.AsyncClient) -> None:
    """Another body or another path with it is refused, and nothing is done."""
    await ask(web, "/experiments", EXPERIMENT)

    for path, content in (("/experiments", EXPERIMENT | {"key": "other"}), ("/layers", {"key": "l"})):
        refused = await ask(web, path, content)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/header/idempotency-key")
    assert await names(web) == ["button"]
    assert (await web.get("/layers")).json()["layers"] == []


async def test_keys_are_of_a_credential(web: httpx.AsyncClient) -> None:
    """The same key of another client, or of another credential of the client, is another key: nobody gets another's answer."""
    own = await ask(web, "/api-keys", {"name": "a", "scopes": ["admin"]})
    theirs = await ask(web, "/api-keys", {"name": "a", "scopes": ["admin"]}, **bearer(OTHER_TOKEN))
    other = await ask(web, "/api-keys", {"name": "b", "scopes": ["admin"]}, **bearer(own.json()["key"]))

    assert [each.status_code for each in (own, theirs, other)] == [201] * 3
    assert len({each.json()["key"] for each in (own, theirs, other)}) == 3
    assert not any(REPEATED in each.headers for each in (own, theirs, other))


async def test_of_many_at_once_one_is_done(web: httpx.AsyncClient) -> None:
    """The others hear that it is under way, or what came of it."""
    answers = await asyncio.gather(*(ask(web, "/experiments", EXPERIMENT) for _ in range(20)))

    assert {each.status_code for each in answers} <= {201, 409}
    done = [each for each in answers if each.status_code == 201]
    assert len([each for each in done if REPEATED not in each.headers]) == 1
    assert len({each.content for each in done}) == 1
    assert await names(web) == ["button"]


async def test_what_the_state_refuses_is_said_again(web: httpx.AsyncClient) -> None:
    """A conflict, and what is missing: also when it would be granted by now."""
    missing = await ask(web, "/experiments/button/start", key="early")
    await ask(web, "/experiments", EXPERIMENT)
    refused = await ask(web, "/experiments/button/pause", key="pause")
    await ask(web, "/experiments/button/start", key="start")

    again = (
        await ask(web, "/experiments/button/start", key="early"),
        await ask(web, "/experiments/button/pause", key="pause"),
    )

    assert (missing.status_code, refused.status_code) == (404, 409)
    assert [(each.status_code, each.content) for each in again] == [(404, missing.content), (409, refused.content)]
    assert all(each.headers[REPEATED] == "true" for each in again)


async def test_what_was_not_begun_is_tried_anew(web: httpx.AsyncClient) -> None:
    """A fault of the request, a missing right: the key is free for what is sent next."""
    faulty = await ask(web, "/experiments", EXPERIMENT | {"variants": []})
    unknown = await ask(web, "/metric-definitions", {"key": "m", "type": "ratio", "event": "buy"})
    stranger = await ask(web, "/experiments", EXPERIMENT, Authorization="Bearer nobody")

    assert [each.status_code for each in (faulty, unknown, stranger)] == [422, 422, 401]
    assert (await ask(web, "/experiments", EXPERIMENT)).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a/b"])
async def test_malformed_keys_are_refused(web: httpx.AsyncClient, key: str) -> None:
    """One to 255 letters, digits, `-` and `_`."""
    refused = await web.post("/experiments", json=EXPERIMENT, headers={b"Idempotency-Key": key.encode()})

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/header/idempotency-key")
    assert await names(web) == []


async def test_long_keys_of_events(web: httpx.AsyncClient) -> None:
    """Events without an id get one from the key, however long it is; two long keys are two."""
    event = {"user_id": "u", "event_type": "buy"}
    answers = [await ask(web, "/events", event, key="x" * 254 + end) for end in "aab"]

    assert [each.status_code for each in answers] == [201, 200, 201]  # 200: it is there already


async def test_an_answer_is_given_for_a_day(app: Envelope, web: httpx.AsyncClient) -> None:
    """Then the key is free, and the scheduled work forgets what it was for."""
    await ask(web, "/experiments", EXPERIMENT)
    advance(app, seconds=(once.KEPT - timedelta(seconds=1)).total_seconds())
    same = await ask(web, "/experiments", EXPERIMENT)
    advance(app, seconds=1)
    anew = await ask(web, "/experiments", EXPERIMENT)
    advance(app, days=2)

    assert (same.status_code, same.headers[REPEATED]) == (201, "true")
    assert (anew.status_code, REPEATED in anew.headers) == (409, False)  # there is an experiment of this name
    assert "1 answers forgotten" in await schedule.forgetting(stores_of(app), schedule.Policy())


async def test_who_dies_loses_the_key_after_a_minute(
    app: Envelope, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it is under way; then somebody else may have it done, and whoever comes back changes nothing."""
    begun, goes_on = asyncio.Event(), asyncio.Event()
    keep = SqlAnswers.keep

    async def late(*arguments: Any) -> bool:
        if not begun.is_set():
            begun.set()
            await goes_on.wait()
        return await keep(*arguments)

    @asynccontextmanager
    async def apart(self: once._JoinedControl, client: str) -> AsyncIterator[Transaction]:
        await self._once.take()  # and no transaction yet: a second writer would wait for the first one's
        raise Unavailable("late", retry_after=1)
        yield

    monkeypatch.setattr(SqlAnswers, "give_back", _nothing)
    with monkeypatch.context() as killed:
        killed.setattr(once._JoinedControl, "transaction", apart)
        died = await ask(web, "/experiments", EXPERIMENT)
    monkeypatch.setattr(SqlAnswers, "keep", late)

    under_way = await ask(web, "/experiments", EXPERIMENT)
    advance(app, seconds=once.TAKEN.total_seconds())
    slow = asyncio.create_task(ask(web, "/experiments", EXPERIMENT))
    await begun.wait()
    async with stores_of(app).control.reading("first") as view:
        assert (await view.experiments("first")).experiments == ()
    goes_on.set()

    assert (died.status_code, under_way.status_code, (await slow).status_code) == (503, 409, 201)
    assert under_way.json()["code"] == "under_way"
    assert int(under_way.headers["retry-after"]) >= 1


async def _nothing(*_: Any) -> None:
    """What somebody does who was killed."""


async def fails_to_keep(*_: Any) -> bool:
    """The store goes away with the last statement."""
    raise Unavailable("gone", retry_after=1)


async def lost_after(web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is there of a change whose answer could not be stored, and that was asked for again."""
    with monkeypatch.context() as broken:
        broken.setattr(SqlAnswers, "keep", fails_to_keep)
        failed = await ask(web, "/experiments", {**EXPERIMENT, "key": None})
    again = await ask(web, "/experiments", {**EXPERIMENT, "key": None})
    assert (failed.status_code, again.status_code) == (503, 201)
    return await names(web)


async def test_there_are_both_the_change_and_its_answer_or_neither(
    web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that goes away between the two leaves nothing, and the key is free."""
    assert await lost_after(web, monkeypatch) == ["button"]


async def test_an_answer_that_is_stored_after_the_change_is_caught(
    web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: a change in a transaction of its own is made twice."""

    @asynccontextmanager
    async def of_its_own(self: once._JoinedControl, client: str) -> AsyncIterator[Transaction]:
        await self._once.take()
        async with self._control.transaction(client) as transaction:
            yield transaction

    monkeypatch.setattr(once._JoinedControl, "transaction", of_its_own)

    assert len(await lost_after(web, monkeypatch)) == 2


async def test_who_was_overtaken_changes_nothing(web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took so long that the key is somebody else's: 503, and what was changed is undone."""

    async def overtaken(*_: Any) -> bool:
        return False

    monkeypatch.setattr(SqlAnswers, "keep", overtaken)

    assert (await ask(web, "/experiments", EXPERIMENT)).status_code == 503
    assert await names(web) == []


async def test_secrets_in_answers_are_sealed(web: httpx.AsyncClient, data_dir: Path) -> None:
    """A key is shown again to whoever asked for it, and is in no file."""
    made = await ask(web, "/api-keys", {"name": "shop", "scopes": ["assign"]})
    again = await ask(web, "/api-keys", {"name": "shop", "scopes": ["assign"]})

    assert made.json()["key"] == again.json()["key"]
    assert made.json()["key"].encode() not in stored_in(data_dir)


async def test_a_keyring_that_is_gone(app: Envelope, web: httpx.AsyncClient) -> None:
    """What another one sealed cannot be said again, and is not done again."""
    await ask(web, "/experiments", EXPERIMENT)
    stores = stores_of(app)
    object.__setattr__(stores, "keyring", type(stores.keyring).ephemeral())

    refused = await ask(web, "/experiments", EXPERIMENT)

    assert (refused.status_code, "sealed" in refused.json()["detail"]) == (409, True)
    assert await names(web) == ["button"]


async def test_what_is_known_afterwards(web: httpx.AsyncClient) -> None:
    """Caches and snapshots know what was changed with a key as they do without one."""
    await web.post("/experiments", json=EXPERIMENT | {"status": "active"})
    flag = {"key": "f", "type": "boolean", "default": False}
    flag |= {"experiment": {"key": "button", "values": {"a": False, "b": True}}}
    assert (await web.post("/flags", json=flag)).status_code == 201
    evaluated = "/ofrep/v1/evaluate/flags/f"
    await web.get("/experiments/button/assignment/u")
    await web.post(evaluated, json={"context": {"targetingKey": "u"}})

    await ask(web, "/experiments/button/complete", {"winner": "b"})

    assert (await web.get("/experiments/button")).json()["status"] == "completed"
    assert (await web.post(evaluated, json={"context": {"targetingKey": "u"}})).json()["value"] is True
