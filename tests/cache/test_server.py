"""A server and its cache's Redis: away, closed to it, or open."""

import logging
from pathlib import Path

import pytest
from tests.backends import free_port, redis
from tests.servers import TOKEN, UNLIMITED, asking

from upshot import redisserver
from upshot.cache import connect
from upshot.http.app import create_app
from upshot.settings import Settings

SECRET = "s3cret"  # noqa: S105 - of a test


async def test_without_its_cache_a_server_is_ready_and_answers(tmp_path: Path) -> None:
    """200, with a word on the cache; assignments are stored as ever."""
    settings = Settings(data_dir=tmp_path, **UNLIMITED).model_copy(
        update={"cache_url": f"redis://127.0.0.1:{free_port()}"}
    )
    app = create_app(settings, {TOKEN: "first"})
    async with asking(app) as client:
        made = (
            await client.post("/experiments", json={"name": "x", "variants": [{"name": "a"}, {"name": "b"}]})
        ).json()
        answers = [await client.get(f"/experiments/{made['id']}/assignment/user-{n % 5}") for n in range(10)]
        ready = await client.get("/readyz")

    assert {(answer.status_code, answer.json()["persisted"]) for answer in answers} == {(200, True)}
    assert (ready.status_code, ready.json()["backends"]["cache"]) == (200, "away")


async def test_without_a_redis_the_cache_is_well() -> None:
    """There is nothing that could be away."""
    cache = connect("memory://")

    assert await cache.ping() == "ok"


@pytest.mark.slow
async def test_a_server_that_wants_a_password_gets_that_of_the_url(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong one is an outage like others, and stands in no line of the log."""
    monkeypatch.setattr(redisserver, "SECONDS", 20)  # it is refused, not late
    server = redis.Redis(tmp_path, "--requirepass", f"{SECRET}:/@")
    server.restart()
    states: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for password in (f"{SECRET}%3A%2F%40", f"{SECRET}wrong"):
            cache = connect(server.url.replace("://", f"://:{password}@"))
            states += [await cache.ping() for _ in range(6)]
            await cache.close()
    server.kill()

    assert states == ["ok"] * 6 + ["away"] * 6
    assert SECRET not in caplog.text
