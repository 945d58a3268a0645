"""The client for an event loop: the same protocol, so what is tried here is that a task carries it as a thread does."""

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.backends import free_port
from tests.sdk.scripted import KEY, Reply, ScriptedServer, configuration, experiment
from tests.sdk.test_client import SOON
from tests.sdk.test_client import until as until_in_thread
from tests.sdk.test_decisions import DECISIONS, at, kept
from tests.sdk.test_faults import PATIENT, counted, create, in_child, longest_of, stopped
from tests.servers import TOKEN, RunningServer

from upshot.sdk import AsyncExperimentClient, ExperimentClient, Occasion

Connect = Callable[..., Awaitable[AsyncExperimentClient]]


@pytest.fixture
async def connect(script: ScriptedServer) -> AsyncIterator[Connect]:
    """Makes clients of the scripted server that are ready."""
    made: list[AsyncExperimentClient] = []

    async def connected(**options: Any) -> AsyncExperimentClient:
        client = AsyncExperimentClient(script.url, KEY, **{"timeout": 20.0, "sticky_timeout": 20.0} | options)
        made.append(client)
        assert await client.ready(10)
        return client

    yield connected
    for client in made:
        await client.close(0.2)


async def until(reached: Callable[[], Any], seconds: float = SOON) -> bool:
    """Wait until something is so, at most so many seconds; whether it is."""
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:  # noqa: ASYNC110 - of what has no event
        await asyncio.sleep(0.01)
    return bool(reached())


def test_both_clients_take_the_same_arguments() -> None:
    """And have the same methods; only what may wait is awaited."""

    def surface(kind: type) -> dict[str, list[str]]:
        methods = {
            name: each for name, each in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
        }
        return {name: list(inspect.signature(each).parameters) for name, each in (methods | {"": kind}).items()}

    assert surface(ExperimentClient) == surface(AsyncExperimentClient)


async def test_golden_decisions_through_the_client(tmp_path: Path) -> None:
    """All experiments and flags of the vectors."""
    client = AsyncExperimentClient("http://127.0.0.1:9", KEY, snapshot_file=kept(tmp_path, DECISIONS["document"]))

    for case in DECISIONS["cases"]:
        at(client, case["now"])  # type: ignore[arg-type]
        for key, wanted in case["experiments"].items():
            choice = await client.variant(key, case["user_id"], case["context"], expose=False)
            assert (choice.variant, choice.reason) == (wanted["variant"], wanted["reason"])
        for key, wanted in case["flags"].items():
            default = type(wanted["value"])()
            found = await client.flag_details(key, case["user_id"], default, case["context"], expose=False)
            assert (found.value, found.reason, found.variant) == (wanted["value"], wanted["reason"], wanted["variant"])
    await client.close(0)


async def test_what_is_recorded_reaches_the_server(script: ScriptedServer, connect: Connect) -> None:
    """Exposures once each, of choices and flags; nothing raises."""
    client = await connect()
    absent: Any = None

    for _ in range(3):
        await client.variant("button", "user-1", {"country": "US"})
        await client.flag("banner", "user-2", "")
        await client.variant("tried", "user-3", {"country": "QA"})
        await client.choices("user-4")
        await client.variant("button", absent, absent)
    client.track("user-1", "purchase", {"price": 2.5})
    client.expose("button", "user-5", "blue")

    assert await client.flush(SOON)
    assert sorted(item["user_id"] for item in script.items("/exposures")) == ["user-1", "user-2", "user-5"]
    assert [item["properties"] for item in script.items("/events")] == [{"price": 2.5}]
    assert client.stats.sent == 4


async def test_events_of_other_threads_wake_the_task(script: ScriptedServer, connect: Connect) -> None:
    """Without a flush, long before the next poll, while nothing else happens in the loop: another thread waits for it."""
    client = await connect(poll_seconds=3_600)
    thread = threading.Timer(0.1, client.track, ("user-1", "purchase"))
    thread.start()

    assert await asyncio.to_thread(until_in_thread, lambda: script.items("/events"))
    thread.join()


async def test_changes_come_by_polls_and_by_the_stream(script: ScriptedServer, connect: Connect) -> None:
    """Listeners are told."""
    script.streaming = True
    by_poll, by_stream = await connect(poll_seconds=0.05), await connect(poll_seconds=3_600, stream=True)
    told: list[Occasion] = []
    by_stream.watch(told.append)
    assert await until(lambda: script.streams)

    script.document, script.etag = configuration(experiment("other")), '"two"'
    script.tell('data: {"type":"refetchEvaluation","etag":"\\"two\\""}\n\n')

    assert await until(lambda: by_poll.version == by_stream.version == "two")
    assert (await by_stream.variant("other", "user-1")).variant
    assert Occasion.CHANGED in told


async def test_a_refusal_keeps_the_queue(script: ScriptedServer, connect: Connect) -> None:
    """401 and 429; then all is sent."""
    client = await connect()
    script.replies["/events"] = lambda _: Reply(401)
    client.track("user-1", "purchase")
    assert not await client.flush(0.2)
    script.replies["/events"] = lambda _: Reply(429, headers={"Retry-After": "1"})
    await asyncio.sleep(0.3)
    script.replies = {}

    assert await client.flush(60)
    assert client.stats.sent == 1


class Shelf:
    """A store of variants that is awaited."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {("button", "kept"): "green"}

    async def get(self, experiment: str, user_id: str) -> str | None:
        """What was kept, or a failure."""
        await asyncio.sleep(0)
        if user_id == "unlucky":
            raise ConnectionError
        return self.kept.get((experiment, user_id))

    async def put(self, experiment: str, user_id: str, variant: str) -> None:
        """Keep."""
        await asyncio.sleep(0)
        self.kept[experiment, user_id] = variant


async def test_variants_stay_in_a_store_and_as_the_server_has_them(script: ScriptedServer, connect: Connect) -> None:
    """As with the other client."""
    shelf = Shelf()
    by_store, by_server = await connect(sticky=shelf), await connect(sticky="server")
    row = {"experiment_id": "id-button", "variant": {"name": "green"}, "reason": "assigned"}
    script.replies["/experiments/id-button/assignments"] = lambda _: Reply(200, {"assignments": [row]})
    script.replies["/assignments"] = lambda _: Reply(200, {"assignments": [row]})

    assert (await by_store.variant("button", "kept")).variant == "green"
    assert (await by_store.variant("button", "new")).variant == shelf.kept["button", "new"]
    assert (await by_store.variant("button", "unlucky")).variant is not None
    for number in range(6):
        assert (await by_server.variant("button", f"user-{number}")).variant == "green"
        assert (await by_server.variant("button", f"user-{number}")).variant == "green"
    assert (await by_server.choices("another"))["button"].variant == "green"
    assert len(script.asked_for("/experiments/id-button/assignments")) == 6
    assert len(script.asked_for("/assignments")) == 1


async def test_while_the_server_does_not_answer_the_hash_decides(script: ScriptedServer, connect: Connect) -> None:
    """Until it does."""
    by_hash = await (await connect()).variant("button", "user-1", expose=False)
    other = "green" if by_hash.variant != "green" else "blue"
    row = {"experiment_id": "id-button", "variant": {"name": other}, "reason": "assigned"}
    script.replies["/experiments/id-button/assignments"] = lambda _: Reply(503)
    client = await connect(sticky="server")

    assert (await client.variant("button", "user-1", expose=False)).variant == by_hash.variant
    script.replies["/experiments/id-button/assignments"] = lambda _: Reply(200, {"assignments": [row]})
    deadline = time.monotonic() + SOON
    while (  # noqa: ASYNC110 - of what has no event
        await client.variant("button", "user-1", expose=False)
    ).variant != other and time.monotonic() < deadline:
        await asyncio.sleep(0.05)

    assert (await client.variant("button", "user-1", expose=False)).variant == other


def test_a_client_goes_on_in_another_loop(script: ScriptedServer) -> None:
    """And what was recorded outside of any waits for the next one."""
    client = AsyncExperimentClient(script.url, KEY)

    async def work(number: int) -> str | None:
        assert await client.ready(SOON)
        client.track(f"user-{number}", "inside")
        assert await client.flush(SOON)
        return (await client.variant("button", "user-1")).variant

    client.track("user-0", "outside")
    first, second = asyncio.run(work(1)), asyncio.run(work(2))
    asyncio.run(client.close())

    assert first == second is not None
    assert [item["user_id"] for item in script.items("/events")] == ["user-0", "user-1", "user-2"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_has_a_queue_and_a_task_of_its_own(script: ScriptedServer) -> None:
    """What the parent has to send is sent once, by the parent."""
    client = AsyncExperimentClient(script.url, KEY)
    client.track("user-1", "of the parent")

    def work() -> None:
        async def told() -> None:
            client.track("user-2", "of the child")
            assert await client.flush(SOON)

        asyncio.run(told())

    assert in_child(work) == 0
    asyncio.run(client.close())
    assert [item["event_type"] for item in script.items("/events")] == ["of the child", "of the parent"]


@pytest.mark.slow
async def test_a_server_that_dies_and_stands_still_loses_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    """Nothing in the loop waits for it, and everything is counted once."""
    port = free_port()
    server = await asyncio.to_thread(RunningServer, tmp_path, port=port)
    try:
        create(server)
        client = AsyncExperimentClient(server.url, TOKEN, timeout=2)
        assert await client.ready(10)
        taken = []
        for number in range(600):
            started = time.monotonic()
            await client.variant("button", f"user-{number}")
            client.track(f"user-{number}", "buy")
            taken.append(time.monotonic() - started)
            await asyncio.sleep(0.002)
            if number == 200:
                server.kill()
                server = await asyncio.to_thread(RunningServer, tmp_path, port=port)
            if number == 400:
                with stopped(server):
                    for _ in range(50):
                        started = time.monotonic()
                        await client.variant("button", f"user-{number}")
                        taken.append(time.monotonic() - started)
                        await asyncio.sleep(0.01)

        assert longest_of(taken) < PATIENT
        assert await client.flush(60)
        assert (client.stats.dropped, client.stats.failed, client.stats.refused) == (0, 0, 0)
        await client.close()
        assert await until(lambda: counted(server) == (600, 600))
    finally:
        await asyncio.to_thread(server.stop)
