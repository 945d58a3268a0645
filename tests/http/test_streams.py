"""Places of streams: refused as any request where there are none, and given back whenever a client leaves."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message
from tests.http.world import made
from tests.servers import TOKEN, UNLIMITED, asking

from upshot.http import limits
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.settings import Settings

PLACES = 2


class Listener:
    """Somebody who asks for a stream and stays until they leave, or is gone before anything was sent."""

    def __init__(self, app: Envelope, path: str) -> None:
        self._app = app
        self._scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(b"host", b"upshot"), (b"authorization", f"Bearer {TOKEN}".encode())],
            "client": ("192.0.2.7", 4711), "server": ("upshot", 80),
        }  # fmt: skip
        self._coming: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        self._left = asyncio.Event()
        self._told = asyncio.Event()
        self.sent: list[Message] = []

    async def listen(self) -> None:
        """Ask, and take what is sent, until it is over."""
        await self._app(self._scope, self._receive, self._send)

    async def begun(self) -> int:
        """Wait for the beginning of the answer; its status."""
        await asyncio.wait_for(self._told.wait(), 5)
        return self.status

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    @property
    def status(self) -> int:
        """What was answered; 0 for nothing."""
        return int(self.sent[0]["status"]) if self.sent else 0

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields of the answer."""
        return [(name.decode(), value.decode()) for name, value in self.sent[0]["headers"]]

    @property
    def body(self) -> bytes:
        """What came."""
        return b"".join(message.get("body", b"") for message in self.sent)

    async def _receive(self) -> Message:
        if self._coming:
            return self._coming.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await asyncio.sleep(0)  # as a server does whose buffer is full; a client may leave here
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self._told.set()


@pytest.fixture(params=["/sdk/stream", "/sub/"])
async def scene(
    request: pytest.FixtureRequest, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Envelope, str]]:
    """An application where a client may keep two streams, and the path of one."""
    monkeypatch.setattr(limits, "AT_ONCE", {"streams": PLACES})
    app = create_app(Settings(data_dir=data_dir, **UNLIMITED), {TOKEN: "first"})
    async with asking(app) as api:
        path = str(request.param)
        if path == "/sub/":
            page = await made(api, "/api-keys", name="page", scopes=["assign"], origins=["https://shop.example"])
            path += page["id"]
        yield app, path


def taken(app: Envelope) -> int:
    """How many places are taken."""
    return sum(app.application.state.limits._under_way.values())


async def test_a_stream_without_a_place_is_refused_and_a_place_comes_back(scene: tuple[Envelope, str]) -> None:
    """429 as any other, with all that belongs to it; who leaves makes room."""
    app, path = scene
    staying = [Listener(app, path) for _ in range(PLACES)]
    tasks = [asyncio.create_task(each.listen()) for each in staying]
    assert [await each.begun() for each in staying] == [200] * PLACES
    late, later = Listener(app, path), Listener(app, path)

    await late.listen()
    staying[0].leave()
    await tasks[0]
    tasks.append(asyncio.create_task(later.listen()))

    fields = dict(late.fields)
    assert (late.status, fields["content-type"]) == (429, "application/problem+json")
    assert int(fields["retry-after"]) >= 1
    assert fields["ratelimit"] == '"streams-under-way";r=0'
    assert await later.begun() == 200
    for each in (*staying, later):
        each.leave()
    await asyncio.gather(*tasks)
    assert taken(app) == 0


async def test_who_leaves_before_the_first_event_leaves_no_place_taken(scene: tuple[Envelope, str]) -> None:
    """However many do. A place that belongs to the events is lost here: they never begin."""
    app, path = scene
    for _ in range(3 * PLACES):
        gone = Listener(app, path)
        gone.leave()
        await gone.listen()
        assert gone.body == b""
        assert gone.status in (0, 200)
    after = Listener(app, path)

    task = asyncio.create_task(after.listen())

    assert await after.begun() == 200
    after.leave()
    await task
    assert taken(app) == 0


async def test_a_stream_says_every_field_once(scene: tuple[Envelope, str]) -> None:
    """And that nobody keeps it."""
    app, path = scene
    listener = Listener(app, path)
    task = asyncio.create_task(listener.listen())
    await listener.begun()
    listener.leave()
    await task

    assert max(Counter(name for name, _ in listener.fields).values()) == 1
    assert dict(listener.fields)["cache-control"] == "no-store"
    assert listener.body.startswith(b"retry: 2000\n\n")
