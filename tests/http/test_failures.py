"""Paths that speak another tool's protocol: their failures have its form, and are logged as those of other paths are."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.test_security_log import Heard, heard
from tests.servers import TOKEN, UNLIMITED, asking

from upshot import contexts
from upshot.http.app import create_app
from upshot.settings import Settings

__all__ = ["heard"]

OFREP, SIXPACK = "/ofrep/v1/evaluate/flags", "/participate"
FORMS = {OFREP: {"key", "errorCode", "errorDetails", "metadata"}, SIXPACK: {"status", "message"}}


@pytest.fixture
async def api(data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An application whose doors are open, and that may be asked twice a minute for an assignment."""
    limits = UNLIMITED | {"limit_assignments": "2/min burst 2"}
    app = create_app(Settings(data_dir=data_dir, sixpack_client="first", **limits), {TOKEN: "first"})
    async with asking(app) as client:
        yield client


async def ask(api: httpx.AsyncClient, path: str) -> httpx.Response:
    """A request that nothing is wrong with."""
    if path == OFREP:
        return await api.post(path, json={"context": {"targetingKey": "canary"}})
    arms: dict[str, Any] = {"experiment": "button", "alternatives": ["red", "blue"], "client_id": "canary"}
    return await api.get(path, params=arms)


@pytest.mark.parametrize("path", FORMS)
async def test_an_error_that_nobody_expected_is_logged_and_has_the_paths_form(
    api: httpx.AsyncClient,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    """500, with the error in the log and a line in the security log; of what was sent neither says anything."""

    def fail(_users: Any, _at: str = "") -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(contexts, "check", fail)

    with caplog.at_level(logging.ERROR, "upshot.http"):
        answer = await ask(api, path)

    assert (answer.status_code, answer.json().keys()) == (500, FORMS[path])
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]
    [line] = heard.fields
    assert (line["event"], line["error"], line["path"]) == ("error.unexpected", "ZeroDivisionError", path)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert "canary" not in answer.text + str(heard.fields)


@pytest.mark.parametrize("path", FORMS)
async def test_a_refusal_that_concerns_security_is_logged(api: httpx.AsyncClient, heard: Heard, path: str) -> None:
    """A quota that is used up."""
    answers = [await ask(api, path) for _ in range(3)]

    assert [answer.status_code for answer in answers[:2]] == [200, 200]
    assert answers[2].status_code == (429 if path == OFREP else 400)
    assert answers[2].json().keys() == FORMS[path]
    assert [(line["event"], line["path"]) for line in heard.fields] == [("quota.exceeded", path)]


@pytest.mark.parametrize("path", [OFREP, "/participate", "/convert"])
async def test_what_cannot_be_read_is_400(api: httpx.AsyncClient, path: str) -> None:
    """In the form of the path: missing arguments, a header that is too long."""
    if path == OFREP:
        answer = await api.post(path, json={"context": {"targetingKey": "u"}}, headers={"If-None-Match": "x" * 1_001})
    else:
        answer = await api.get(path)

    assert answer.status_code == 400
    assert answer.json().keys() == FORMS.get(path, FORMS[SIXPACK])
