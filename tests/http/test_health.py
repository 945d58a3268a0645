"""What anybody may ask: it costs the stores no more when it is asked often."""

import asyncio

import httpx
import pytest

from upshot.control.store import SqlStore


@pytest.mark.parametrize("shared", [True, False])
async def test_a_crowd_that_asks_for_readiness_shares_an_answer(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    """Of a hundred at once nobody waits for more than one look at the database; a look for each is caught."""
    looks, ping = 0, SqlStore.ping

    async def counted(store: SqlStore) -> str:
        nonlocal looks
        looks += 1
        return await ping(store)

    monkeypatch.setattr(SqlStore, "ping", counted)
    if not shared:
        monkeypatch.setattr("upshot.singleflight.SingleFlight.share", lambda _self, _key, work, _patience: work())

    answers = await asyncio.gather(*(api.get("/readyz") for _ in range(100)))

    assert {answer.status_code for answer in answers} <= ({200} if shared else {200, 503})
    assert (looks < 10) is shared
