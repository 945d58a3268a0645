"""Whose an experiment is: whoever made it, unless somebody else is named; and lists by owner and tag."""

from typing import Any

import httpx

VARIANTS = [{"name": "a"}, {"name": "b"}]


async def made(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A new experiment."""
    answer = await api.post("/experiments", json={"variants": VARIANTS, **fields})
    assert answer.status_code == 201
    found: dict[str, Any] = answer.json()
    return found


async def keys(api: httpx.AsyncClient, **asked: str) -> list[str]:
    """The keys of a list."""
    return [each["key"] for each in (await api.get("/experiments", params=asked)).json()["experiments"]]


async def test_an_experiment_has_an_owner(api: httpx.AsyncClient) -> None:
    """The caller, or who is named; it can be handed on, and is in the audit log."""
    own, named = await made(api, name="own"), await made(api, name="named", owner="ann@example.com")
    assert (own["owner"], named["owner"]) == ("a token of the environment", "ann@example.com")

    changed = await api.patch(f"/experiments/{named['id']}", json={"owner": "ben@example.com"})
    nobody = await api.patch(f"/experiments/{own['id']}", json={"owner": None})

    assert (changed.json()["owner"], nobody.json()["owner"]) == ("ben@example.com", "")
    entry = (await api.get("/audit", params={"object_id": named["id"]})).json()["entries"][0]
    assert (entry["before"]["owner"], entry["after"]["owner"]) == ("ann@example.com", "ben@example.com")


async def test_bad_owners(api: httpx.AsyncClient) -> None:
    """Empty, too long, or with control characters: said at the field."""
    for owner in ("", "x" * 255, "a\nb", 5):
        answer = await api.post("/experiments", json={"name": "n", "variants": VARIANTS, "owner": owner})
        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/owner"]


async def test_lists_by_owner_and_tag(api: httpx.AsyncClient) -> None:
    """Both, one, or neither."""
    await made(api, name="one", tags=["web", "app"], owner="ann")
    await made(api, name="two", tags=["web"], owner="ben")

    assert await keys(api, tag="web") == ["two", "one"]
    assert (
        await keys(api, tag="app") == await keys(api, owner="ann") == await keys(api, tag="web", owner="ann") == ["one"]
    )
    assert await keys(api, tag="we") == await keys(api, owner="an") == []
