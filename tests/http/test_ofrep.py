"""OpenFeature's remote evaluation: every reason and error, and what published providers demand beyond the specification."""

from collections import Counter
from typing import Any

import httpx
import pytest
from tests.http.world import experiment, made

PATH = "/ofrep/v1/evaluate/flags"
REASONS = {"STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED"}


async def one(api: httpx.AsyncClient, key: str, user: str = "user-1", **context: Any) -> dict[str, Any]:
    """The evaluation of a flag."""
    response = await api.post(f"{PATH}/{key}", json={"context": {"targetingKey": user} | context})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_every_reason_is_told(api: httpx.AsyncClient) -> None:
    """Through the life of an experiment that drives a flag, and of flags that nothing drives."""
    overrides = [{"variant": "blue", "users": ["tester"]}]
    await experiment(api, "driver", overrides=overrides, targeting={"countries": ["US"]})
    await made(
        api,
        "/flags",
        key="f",
        type="string",
        default="grey",
        experiment={"key": "driver", "values": {"control": "red", "blue": "#00f"}},
    )
    await made(api, "/flags", key="off", type="boolean", default=False, enabled=False)
    await made(api, "/flags", key="all", type="boolean", default=False, rollout={"value": True})
    await made(
        api,
        "/flags",
        key="ruled",
        type="boolean",
        default=False,
        rollout={"value": True, "targeting": {"countries": ["DE"]}},
    )

    async def told(key: str, user: str = "user-1", **context: Any) -> tuple[Any, str, str | None]:
        found = await one(api, key, user, **context)
        return found["value"], found["reason"], found["variant"]

    running = [await told("f", f"u{number}", country="us") for number in range(20)]
    assert Counter(running).keys() == {("red", "SPLIT", "control"), ("#00f", "SPLIT", "blue")}
    assert await told("f", "tester") == ("#00f", "TARGETING_MATCH", "blue")
    assert await told("f", "user-2", country="DE") == ("grey", "DEFAULT", None)
    assert await told("off") == (False, "DISABLED", None)
    assert await told("all") == (True, "STATIC", "rollout")
    assert await told("ruled", country="DE") == (True, "TARGETING_MATCH", "rollout")
    assert await told("ruled", country="US") == (False, "DEFAULT", None)
    await api.post("/experiments/driver/pause")
    assert await told("f", "u0", country="us") == ("grey", "DISABLED", None)
    await api.post("/experiments/driver/complete", json={"winner": "blue"})
    assert await told("f", "user-9") == ("#00f", "STATIC", "blue")


async def test_a_held_out_user_does_not_get_the_winner(api: httpx.AsyncClient) -> None:
    """Until the holdout ends."""
    await made(api, "/holdouts", key="h", percentage=50)
    await experiment(api, "driver")
    await made(
        api, "/flags", key="f", type="boolean", default=False, experiment={"key": "driver", "values": {"blue": True}}
    )
    await api.post("/experiments/driver/complete", json={"winner": "blue"})

    during = Counter([(await one(api, "f", f"u{n}"))["reason"] for n in range(40)])
    await api.post("/holdouts/h/end")
    after = {(await one(api, "f", f"u{n}"))["reason"] for n in range(40)}

    assert during.keys() == {"STATIC", "DEFAULT"}
    assert after == {"STATIC"}


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("number", 1, "1.0"),
        ("number", 2.5, "2.5"),
        ("integer", 1, "1"),
        ("boolean", True, "true"),
        ("string", "1", '"1"'),
        ("object", {"a": [1]}, '{"a":[1]}'),
    ],
)
async def test_values_have_the_type_of_their_flag(api: httpx.AsyncClient, kind: str, value: Any, text: str) -> None:
    """A number is written as a float, an integer as one: typed providers refuse the other."""
    await made(api, "/flags", key="f", type=kind, default=value)

    response = await api.post(f"{PATH}/f", json={"context": {"targetingKey": "u"}})

    assert f'"value":{text},' in response.text


async def test_what_providers_need_is_always_there(api: httpx.AsyncClient) -> None:
    """variant and reason, null or not; metadata of texts, numbers and booleans; application/json."""
    await experiment(api, "driver")
    await made(
        api, "/flags", key="f", type="boolean", default=False, experiment={"key": "driver", "values": {"blue": True}}
    )
    await made(api, "/flags", key="g", type="boolean", default=False)

    bulk = await api.post(PATH, json={"context": {"targetingKey": "u1", "nested": {"a": 1}, "list": [1], "none": None}})
    single = await api.post(f"{PATH}/f", json={"context": {"targetingKey": "u1"}})

    assert bulk.headers["content-type"] == single.headers["content-type"] == "application/json"
    assert {flag["key"] for flag in bulk.json()["flags"]} == {"f", "g"}
    for flag in (*bulk.json()["flags"], single.json()):
        assert flag.keys() == {"key", "value", "reason", "variant", "metadata"}
        assert flag["reason"] in REASONS
        assert all(isinstance(value, str | int | float | bool) for value in flag["metadata"].values())
    assert single.json()["metadata"]["experimentKey"] == "driver"
    assert bulk.json()["metadata"] == {"eventsUrl": "http://upshot/events", "exposuresUrl": "http://upshot/exposures"}
    assert [stream["type"] for stream in bulk.json()["eventStreams"]] == ["sse"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "PARSE_ERROR"), (b"[]", "PARSE_ERROR"), (b"7", "PARSE_ERROR"),
        (b'{"a":1,"a":2}', "INVALID_CONTEXT"), (b"\xff", "PARSE_ERROR"),
        (b"{}", "TARGETING_KEY_MISSING"), (b'{"context":{}}', "TARGETING_KEY_MISSING"),
        (b'{"context":{"targetingKey":""}}', "TARGETING_KEY_MISSING"),
        (b'{"context":{"targetingKey":null}}', "TARGETING_KEY_MISSING"),
        (b'{"context":7}', "INVALID_CONTEXT"), (b'{"context":{"targetingKey":7}}', "INVALID_CONTEXT"),
        (b'{"context":{"targetingKey":"null"}}', "INVALID_CONTEXT"), (b'{"context":{"targetingKey":"\\u0000"}}', None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [PATH, f"{PATH}/f"])
async def test_a_context_that_cannot_be_used_is_400(
    api: httpx.AsyncClient, path: str, content: bytes, code: str | None
) -> None:
    """Never 422, with the code that providers know, and all fields as texts."""
    await made(api, "/flags", key="f", type="boolean", default=False)

    response = await api.post(path, content=content, headers={"Content-Type": "application/json"})

    assert response.status_code == 400
    assert response.json().keys() == {"key", "errorCode", "errorDetails", "metadata"}
    assert code is None or response.json()["errorCode"] == code
    assert response.json()["key"] == ("f" if path.endswith("/f") else "")


@pytest.mark.parametrize("key", ["none", "a/b", "a%20b", "%F0%9F%9A%80"])
async def test_a_flag_that_there_is_not_is_404(api: httpx.AsyncClient, key: str) -> None:
    """Whatever its key looks like: some providers do not encode it."""
    response = await api.post(f"{PATH}/{key}", json={"context": {"targetingKey": "u"}})

    assert response.status_code == 404
    assert response.json()["errorCode"] == "FLAG_NOT_FOUND"
    assert response.json()["metadata"] == {}


async def test_who_may_not_ask_is_told_in_the_same_form(api: httpx.AsyncClient) -> None:
    """401 and 403 with a body in JSON; a key may come as X-API-Key."""
    await made(api, "/flags", key="f", type="boolean", default=False)
    writing = (await made(api, "/api-keys", name="w", scopes=["events:write"]))["key"]
    asking = (await made(api, "/api-keys", name="a", scopes=["assign"]))["key"]
    body = {"context": {"targetingKey": "u"}}
    answers = {}
    for name, headers in {
        "nobody": {"Authorization": "Bearer x"}, "writer": {"Authorization": f"Bearer {writing}"},
        "by header": {"Authorization": "", "X-API-Key": asking}, "a bad key": {"Authorization": "", "X-API-Key": "x"},
    }.items():  # fmt: skip
        answers[name] = await api.post(f"{PATH}/f", json=body, headers=headers)

    assert {name: answer.status_code for name, answer in answers.items()} == {
        "nobody": 401, "writer": 403, "by header": 200, "a bad key": 401,
    }  # fmt: skip
    assert answers["nobody"].json()["errorCode"] == answers["writer"].json()["errorCode"] == "GENERAL"


async def test_all_flags_have_an_etag_of_the_whole_answer(api: httpx.AsyncClient) -> None:
    """304 for the same context; another one for another context, and after a change."""
    await made(
        api,
        "/flags",
        key="f",
        type="boolean",
        default=False,
        rollout={"value": True, "targeting": {"countries": ["DE"]}},
    )

    async def asked(etag: str = "", **context: Any) -> httpx.Response:
        return await api.post(PATH, json={"context": {"targetingKey": "u"} | context}, headers={"If-None-Match": etag})

    first = await asked(country="US")
    etag = first.headers["etag"]
    same, other = await asked(etag, country="US"), await asked(etag, country="DE")
    await api.patch("/flags/f", json={"enabled": False})
    changed = await asked(etag, country="US")

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert (other.status_code, changed.status_code) == (200, 200)
    assert len({etag, other.headers["etag"], changed.headers["etag"]}) == 3


async def test_one_flag_is_an_exposure_and_all_flags_are_none(api: httpx.AsyncClient) -> None:
    """What was evaluated together keeps its variant when it is read alone."""
    await experiment(api, "driver")
    await made(
        api, "/flags", key="f", type="boolean", default=False, experiment={"key": "driver", "values": {"blue": True}}
    )

    async def users() -> int:
        return int((await api.get("/experiments/driver/results")).json()["summary"]["total_users"])

    together = [
        (await api.post(PATH, json={"context": {"targetingKey": f"u{n}"}})).json()["flags"][0] for n in range(8)
    ]
    before = await users()
    alone = [await one(api, "f", f"u{n}") for n in range(8)]

    assert before == 0
    assert await users() == 8
    assert [(flag["value"], flag["variant"]) for flag in together] == [
        (flag["value"], flag["variant"]) for flag in alone
    ]


async def test_a_page_of_an_origin_may_ask_and_read_the_etag(api: httpx.AsyncClient) -> None:
    """With a browser's key: preflight, then an answer whose ETag and Retry-After a script may read."""
    key = (await made(api, "/api-keys", name="b", scopes=["assign"], origins=["https://shop.example"]))["key"]
    headers = {"Authorization": f"Bearer {key}", "Origin": "https://shop.example"}

    preflight = await api.options(PATH, headers={"Origin": "https://shop.example"})
    answer = await api.post(PATH, json={"context": {"targetingKey": "u"}}, headers=headers)
    elsewhere = await api.post(
        PATH, json={"context": {"targetingKey": "u"}}, headers=headers | {"Origin": "https://evil.example"}
    )

    allowed = set(preflight.headers["access-control-allow-headers"].split(", "))
    assert {"content-type", "authorization", "x-api-key", "if-none-match"} <= allowed
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert {"ETag", "Retry-After"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    assert elsewhere.status_code == 403


async def test_metadata_name_the_experiment_only_where_it_gave_the_value(api: httpx.AsyncClient) -> None:
    """Asked alone or together; not for a rollout behind it, a default, the kill switch, or who is held out."""
    overrides = [{"variant": "blue", "users": ["tester"]}]
    of_arms = {"control": "red", "blue": "#00f"}
    await made(api, "/holdouts", key="h", percentage=50)
    driver = await experiment(api, "driver", overrides=overrides, targeting={"countries": ["US"]})
    driven = {"type": "string", "default": "grey", "experiment": {"key": "driver", "values": of_arms}}
    await made(api, "/flags", key="f", **driven)
    await made(api, "/flags", key="r", **driven, rollout={"value": "green"})
    ids = {arm["name"]: arm["id"] for arm in driver["variants"]}
    users = [f"u{number}" for number in range(40)]

    async def named(user: str, key: str = "f", **context: Any) -> tuple[str, Any, Any]:
        """The reason, and which variant of which experiment the metadata name."""
        alone = await one(api, key, user, **context)
        asked = {"context": {"targetingKey": user} | context}
        together = {flag["key"]: flag for flag in (await api.post(PATH, json=asked)).json()["flags"]}[key]
        assert alone == together
        known = {name: alone["metadata"].get(name) for name in ("experimentKey", "experimentId", "variantId")}
        assert list(known.values()) in ([None] * 3, ["driver", driver["id"], ids.get(alone["variant"] or "")])
        return alone["reason"], known["experimentKey"], known["variantId"]

    running = {await named(user, country="US") for user in users}
    assert running == {("SPLIT", "driver", ids["control"]), ("SPLIT", "driver", ids["blue"]), ("DEFAULT", None, None)}
    assert {await named(user, "r", country="US") for user in users} == running - {("DEFAULT", None, None)} | {
        ("STATIC", None, None)
    }
    assert await named("abroad", country="DE") == ("DEFAULT", None, None)
    assert await named("abroad", "r", country="DE") == ("STATIC", None, None)
    assert await named("tester") == ("TARGETING_MATCH", "driver", ids["blue"])
    await api.post("/experiments/driver/pause")
    assert await named("tester") == ("TARGETING_MATCH", "driver", ids["blue"])
    assert {await named(user, country="US") for user in users} == {("DISABLED", None, None)}
    await api.post("/experiments/driver/complete", json={"winner": "blue"})
    assert {await named(user) for user in users} == {("STATIC", "driver", ids["blue"]), ("DEFAULT", None, None)}
    await api.patch("/flags/f", json={"enabled": False})
    assert {await named(user) for user in users} == {("DISABLED", None, None)}
