"""Over HTTP while a part is away: what is answered, what waits, and what happens when it is back."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.backends import free_port
from tests.callers import somebody
from tests.faults.lateness import losing
from tests.operations.stubs import Outage, StubQueue
from tests.punctual import in_time, punctual
from tests.servers import TOKEN, UNLIMITED, asking

from upshot import cache, control, eventqueue, eventstore
from upshot.clock import SystemClock
from upshot.experiments import Draft
from upshot.http.app import create_app
from upshot.operations import Stores, experiments
from upshot.settings import Settings
from upshot.variants import VariantDraft

PROMISE = 6.0  # seconds until a request is answered, whatever is away
EVENTS = [{"user_id": "u", "event_type": "buy", "event_id": f"event-{number}"} for number in range(3)]
ARMS: list[dict[str, Any]] = [{"name": "a"}, {"name": "b"}]


@asynccontextmanager
async def application(folder: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The whole application in this process, asked as the client "first"."""
    app = create_app(Settings(data_dir=folder, **UNLIMITED).model_copy(update=settings), {TOKEN: "first"})
    async with asking(app) as client:
        yield client


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> StubQueue:
    """The queue that an application gets."""
    stub = StubQueue()

    async def connect(_url: str) -> StubQueue:
        return stub

    monkeypatch.setattr(eventqueue, "connect", connect)
    return stub


@pytest.fixture
async def outages(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Outage]]:
    """The stores that an application gets, by name, once it has them."""
    made: dict[str, Outage] = {}
    async with AsyncExitStack() as exits:

        def shaky(name: str, connect: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Outage]]:
            async def connected(*arguments: Any) -> Outage:
                store = await connect(*arguments)
                exits.push_async_callback(store.close)
                made[name] = Outage(store)
                return made[name]

            return connected

        monkeypatch.setattr(control, "connect", shaky("control", control.connect))
        monkeypatch.setattr(eventstore, "connect", shaky("events", eventstore.connect))
        yield made


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so: what is tried less and less often may take a while."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - what it waits for wakes nobody
            await asyncio.sleep(0.05)


async def counted(api: httpx.AsyncClient) -> int:
    """How many events the store holds."""
    return sum(found["count"] for found in (await api.get("/events/types")).json()["event_types"])


# The queue


async def test_with_a_queue_events_are_taken_and_not_stored_yet(tmp_path: Path, queue: StubQueue) -> None:
    """202; bad ones are refused at once, and a batch of bad ones is 422."""
    bad = {"user_id": "", "event_type": "buy"}
    async with application(tmp_path, queue_url="stub://") as api:
        taken = await api.post("/events", json=[*EVENTS, bad])
        refused = await api.post("/events", json=[bad])

        assert (taken.status_code, refused.status_code) == (202, 422)
        assert (taken.json()["accepted"], [part["index"] for part in taken.json()["rejected"]]) == (3, [3])
        assert queue.published == [("first", event["event_id"]) for event in EVENTS]
        assert await counted(api) == 0


async def test_imports_need_no_queue(tmp_path: Path, queue: StubQueue) -> None:
    """Past events go straight to the store, also while the broker is away."""
    queue.away = True
    async with application(tmp_path, queue_url="stub://") as api:
        await api.post("/experiments", json={"name": "past", "variants": ARMS})
        rows = [event | {"timestamp": "2025-01-01T00:00:00Z"} for event in EVENTS]
        imported = await api.post("/experiments/past/import", json={"events": rows})

        assert imported.status_code == 200, imported.text
        assert (await counted(api), queue.published) == (3, [])


@pytest.fixture(params=["nobody listens", "nobody answers"])
def dead_end(request: pytest.FixtureRequest) -> Iterator[str]:
    """A QUEUE_URL that leads nowhere."""
    if request.param == "nobody listens":
        yield f"redis://127.0.0.1:{free_port()}"
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
async def test_without_its_broker_a_server_says_so_in_time(tmp_path: Path, dead_end: str) -> None:
    """503 with Retry-After within six seconds; everything else works, and readiness names the queue."""
    async with application(tmp_path, queue_url=dead_end) as api:
        async with losing() as lost:
            begun = time.monotonic()
            response = await api.post("/events", json=EVENTS)
            seconds = time.monotonic() - begun - lost()
        ready = await api.get("/readyz")
        made = await api.post("/experiments", json={"name": "unmoved", "variants": ARMS})

        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert seconds < PROMISE
        assert (ready.status_code, made.status_code) == (503, 201)
        assert ready.json()["backends"]["queue"].startswith("unavailable")
        assert ready.json()["backends"]["control"] == "ok"
        assert await counted(api) == 0


async def test_a_spool_takes_events_while_the_broker_is_away(tmp_path: Path, queue: StubQueue) -> None:
    """202; they are handed on when it is back, each once, and readiness says what waits until then."""
    queue.away = True
    async with application(tmp_path, queue_url="stub://", spool_bytes=1 << 20) as api:
        response = await api.post("/events", json=EVENTS)
        during = (await api.get("/readyz")).json()["backends"]
        queue.away = False

        async def handed_on() -> bool:
            return "spool" not in (await api.get("/readyz")).json()["backends"]

        await eventually(handed_on)

        assert response.status_code == 202
        assert "wait to be handed on" in during["spool"]
        assert queue.published == [("first", event["event_id"]) for event in EVENTS]


async def test_a_spool_takes_events_while_the_event_store_is_away(tmp_path: Path, outages: dict[str, Outage]) -> None:
    """Without a queue, too; sent again, they count once."""
    async with application(tmp_path, spool_bytes=1 << 20) as api:
        outages["events"].away = True
        spooled = await api.post("/events", json=EVENTS)
        outages["events"].away = False
        again = await api.post("/events", json=EVENTS)

        async def handed_on() -> bool:
            return "spool" not in (await api.get("/readyz")).json()["backends"]

        await eventually(handed_on)

        assert (spooled.status_code, again.status_code) == (202, 201)
        assert await counted(api) == 3


async def test_without_a_spool_an_event_store_that_is_away_is_503(tmp_path: Path, outages: dict[str, Outage]) -> None:
    """Nothing is taken that is not durable."""
    async with application(tmp_path) as api:
        outages["events"].away = True
        response = await api.post("/events", json=EVENTS)
        outages["events"].away = False

        assert response.status_code == 503
        assert "retry-after" in response.headers
        assert await counted(api) == 0


# The control store


async def test_assignments_go_on_without_the_control_store(tmp_path: Path, outages: dict[str, Outage]) -> None:
    """`persisted` is false, and the same variant is stored when it is back; the process lives and is not ready meanwhile."""
    async with application(tmp_path) as api:
        made = (await api.post("/experiments", json={"name": "known", "variants": ARMS})).json()
        unseen = (await api.post("/experiments", json={"name": "unseen", "variants": ARMS})).json()
        path = f"/experiments/{made['id']}/assignment"
        remembered = (await api.get(f"{path}/remembered")).json()
        ready = [(await api.get("/readyz")).status_code]
        outages["control"].away = True
        during = [(await api.get(f"{path}/user-{number}")).json() for number in range(20)]
        kept = (await api.get(f"{path}/remembered")).json()
        unknown = await api.get(f"/experiments/{unseen['id']}/assignment/user")
        change = await api.patch(f"/experiments/{made['id']}", json={"name": "renamed"})
        live, state = await api.get("/livez"), await api.get("/readyz")
        ready.append(state.status_code)
        outages["control"].away = False

        async def stored() -> bool:
            return "pending" not in (await api.get("/readyz")).json()["backends"]

        await eventually(stored)
        after = [(await api.get(f"{path}/user-{number}")).json() for number in range(20)]
        users = (await api.get(f"/experiments/{made['id']}/results")).json()["summary"]["total_users"]

    assert {answer["persisted"] for answer in during} == {False}
    assert {(answer["persisted"], answer["is_new"]) for answer in after} == {(True, False)}
    assert [(a["variant_id"], a["assigned_at"]) for a in after] == [(a["variant_id"], a["assigned_at"]) for a in during]
    assert (kept["variant_id"], kept["persisted"]) == (remembered["variant_id"], True)
    assert {unknown.status_code, change.status_code} == {503}
    assert all("retry-after" in refused.headers for refused in (unknown, change))
    assert (live.status_code, ready) == (200, [200, 503])
    assert state.json()["backends"]["pending"] == "20 assignments wait to be stored"
    assert users == 21


@punctual
async def test_another_process_sees_a_change_within_two_seconds(tmp_path: Path) -> None:
    """Though it has the experiment in its cache."""
    url = f"sqlite:///{tmp_path / 'control.db'}"
    one, other = [
        Stores(
            await control.connect(url),
            await eventstore.connect(f"duckdb:///{tmp_path / name}.db"),
            cache.connect("memory://"),
            SystemClock(),
        )
        for name in ("one", "other")
    ]
    try:
        made = await experiments.create(one, somebody("first"), Draft("Shared", (VariantDraft("a"), VariantDraft("b"))))
        before = await experiments.known(other, "first", made.key)
        await experiments.move(one, somebody("first"), made.id, "pause")
        begun = time.monotonic()

        async def seen() -> bool:
            return (await experiments.known(other, "first", made.key)).status == "paused"

        await eventually(seen)
        seconds = time.monotonic() - begun
    finally:
        await one.close()
        await other.close()

    assert before.status == "running"
    in_time(seconds, 2)
