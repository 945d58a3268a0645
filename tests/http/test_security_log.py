"""The security log: one line per event, whole and harmless whatever was sent, and without a secret."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request
from sqlalchemy import text
from tests.access.test_factors import code_at
from tests.callers import somebody
from tests.http.world import PASSWORD, bearer, stores_of
from tests.outbound.receivers import leading
from tests.servers import UNLIMITED

from upshot import securitylog
from upshot.access import Role, Scope
from upshot.access.keys import written
from upshot.access.passwords import Passwords
from upshot.cli.logs import JsonLines, TextLines
from upshot.clock import FixedClock
from upshot.control.sqlaccounts import SqlAccounts
from upshot.database import Database
from upshot.errors import Unavailable
from upshot.experiments import Draft, Status
from upshot.http import securityevents, signin
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.http.securityevents import Repeats
from upshot.operations import experiments, keys, people, webhooks
from upshot.operations.people import Wanted
from upshot.outbound import Outbound
from upshot.securitylog import Event
from upshot.settings import Settings
from upshot.variants import VariantDraft

TOKEN = "canary-token-of-the-environment"  # noqa: S105
SIGN_IN = {"email": "ann@example.com", "password": PASSWORD}
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
ADMIN = bearer(TOKEN)
KEY = written("canarycana", "canary" * 5 + "ca")


class Heard(logging.Handler):
    """What the log said, as records and in both forms that a process writes."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.fields: list[dict[str, Any]] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        if record.name == securitylog.NAME:
            self.fields.append(json.loads(JsonLines().format(record)))
        self.lines += [JsonLines().format(record), TextLines().format(record)]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """All that Upshot logs, at every level."""
    ours, handler = logging.getLogger("upshot"), Heard()
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield handler
    ours.setLevel(level)
    ours.removeHandler(handler)


@pytest.fixture
async def app(data_dir: Path) -> AsyncIterator[Envelope]:
    """An application with one admin, a provider that is never asked, and five attempts to sign in per account."""
    chosen = Settings(
        data_dir=data_dir,
        public_url="https://upshot",
        oidc_issuer="https://id.example.com",
        oidc_client_id="upshot",
        oidc_roles="*:viewer",
        **UNLIMITED | {"limit_login_account": "5/h"},
    )
    made = create_app(chosen, {TOKEN: "default"})
    async with made.lifespan():
        stores = stores_of(made)
        object.__setattr__(stores, "passwords", Passwords(memory_kib=8))
        await people.create(stores, somebody("default"), Wanted("ann@example.com", "Ann", Role.ADMIN), PASSWORD)
        yield made


@pytest.fixture
async def web(app: Envelope) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, as far as cookies go."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("192.0.2.7", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="https://upshot") as client:
        yield client


@dataclass
class Scene:
    """An application, somebody who asks it, and the secrets that they held."""

    app: Envelope
    web: httpx.AsyncClient
    secrets: list[str] = field(default_factory=list)

    async def tokens(self) -> dict[str, Any]:
        """Signed in as Ann with tokens."""
        found = (await self.web.post("/auth/token", json=SIGN_IN)).json()
        self.secrets += [found["access_token"], found["refresh_token"]]
        return dict(found)

    async def cookie(self) -> str:
        """Signed in as Ann with a cookie; what a page sends with changes."""
        answer = await self.web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)
        self.secrets += [answer.cookies["__Host-upshot"], answer.json()["csrf_token"]]
        return str(answer.json()["csrf_token"])

    async def key(self, *scopes: Scope, **fields: Any) -> str:
        """An API key."""
        made = await keys.create(
            stores_of(self.app), somebody("default"), name="one", scopes=frozenset(scopes), **fields
        )
        self.secrets.append(made[1])
        return made[1]


Act = Callable[[Scene], Awaitable[httpx.Response]]


async def by_password(scene: Scene) -> httpx.Response:
    return await scene.web.post("/auth/token", json=SIGN_IN)


async def by_cookie(scene: Scene) -> httpx.Response:
    return await scene.web.post("/auth/session", json=SIGN_IN, headers=OWN_PAGE)


async def wrong_password(scene: Scene) -> httpx.Response:
    return await scene.web.post("/auth/token", json=SIGN_IN | {"password": "canary of a password"})


async def unknown_address(scene: Scene) -> httpx.Response:
    return await scene.web.post("/auth/token", json={"email": "canary@typed-here", "password": "x", "client": "canary"})


async def without_a_code(scene: Scene) -> httpx.Response:
    """Ann has a second factor, and sends the password alone."""
    await _with_a_factor(scene)
    return await scene.web.post("/auth/token", json=SIGN_IN)


async def without_a_factor(scene: Scene) -> httpx.Response:
    """Ann has none where one is required."""
    mine = bearer((await scene.tokens())["access_token"])
    await scene.web.patch("/client", json={"second_factor": True}, headers=mine)
    return await scene.web.post("/auth/token", json=SIGN_IN)


async def wrong_code(scene: Scene) -> httpx.Response:
    """Ann's password, and a code that is not hers."""
    await _with_a_factor(scene)
    return await scene.web.post("/auth/token", json=SIGN_IN | {"code": "canary"})


async def _with_a_factor(scene: Scene) -> None:
    secret = (await scene.web.post("/auth/factor", json=SIGN_IN)).json()["secret"]
    code = code_at(stores_of(scene.app).clock.now(), secret)
    signed = (await scene.web.post("/auth/token", json=SIGN_IN | {"code": code})).json()
    scene.secrets += [secret, code, signed["access_token"], signed["refresh_token"], *signed["recovery_codes"]]


async def from_another_site(scene: Scene) -> httpx.Response:
    return await scene.web.post("/auth/session", json=SIGN_IN, headers={"Sec-Fetch-Site": "cross-site"})


async def back_without_a_cookie(scene: Scene) -> httpx.Response:
    return await scene.web.get("/auth/oidc/callback", params={"code": "canary-code", "state": "canary-state"})


async def begun_by_another_site(scene: Scene) -> httpx.Response:
    return await scene.web.get("/auth/oidc/login", headers={"Sec-Fetch-Site": "cross-site"})


async def too_often(scene: Scene) -> httpx.Response:
    for _ in range(5):
        await scene.web.post("/auth/token", json={"email": "canary@example.com", "password": "x"})
    return await scene.web.post("/auth/token", json={"email": "canary@example.com", "password": "x"})


async def unknown_token(scene: Scene) -> httpx.Response:
    return await scene.web.get("/experiments", headers=bearer("canary-of-a-token"))


async def unknown_key(scene: Scene) -> httpx.Response:
    return await scene.web.get("/experiments/canary/assignment/canary?canary=canary", headers=bearer(KEY))


async def unknown_cookie(scene: Scene) -> httpx.Response:
    return await scene.web.get("/me", headers={"Cookie": "__Host-upshot=ups_canary"})


async def another_scheme(scene: Scene) -> httpx.Response:
    return await scene.web.get("/me", headers={"Authorization": "Basic Y2FuYXJ5"})


async def key_in_an_address(scene: Scene) -> httpx.Response:
    return await scene.web.get("/experiments", params={"search": KEY}, headers=ADMIN)


async def key_without_the_scope(scene: Scene) -> httpx.Response:
    return await scene.web.get("/experiments", headers=bearer(await scene.key(Scope.EVENTS)))


async def without_csrf_token(scene: Scene) -> httpx.Response:
    await scene.cookie()
    return await scene.web.post("/auth/logout", headers=OWN_PAGE)


async def key_of_another_origin(scene: Scene) -> httpx.Response:
    key = await scene.key(Scope.EVENTS, origins=("https://shop.example.com",))
    headers = bearer(key) | {"Origin": "https://canary.example"}
    return await scene.web.post("/events", json={"user_id": "canary", "event_type": "visit"}, headers=headers)


async def token_as_a_person(scene: Scene) -> httpx.Response:
    return await scene.web.get("/me", headers=ADMIN)


async def approval_of_ones_own(scene: Scene) -> httpx.Response:
    stores, mine = stores_of(scene.app), bearer((await scene.tokens())["access_token"])
    draft = Draft("Checkout", (VariantDraft("a"), VariantDraft("b")), status=Status.DRAFT)
    made = await experiments.create(stores, somebody("default"), draft)
    await scene.web.patch("/client", json={"approvals": ["start"]}, headers=mine)
    asked = (await scene.web.post(f"/experiments/{made.id}/start", headers=mine)).json()
    return await scene.web.post(f"/approvals/{asked['id']}/approve", headers=mine)


async def unknown_invitation(scene: Scene) -> httpx.Response:
    return await scene.web.post("/auth/invitation", json={"secret": "canary", "password": PASSWORD})


async def unknown_refresh_token(scene: Scene) -> httpx.Response:
    return await scene.web.post("/auth/refresh", json={"refresh_token": "upr_canary"})


async def refresh_token_of_before(scene: Scene) -> httpx.Response:
    first = (await scene.tokens())["refresh_token"]
    second = await scene.web.post("/auth/refresh", json={"refresh_token": first})
    scene.secrets.append(second.json()["refresh_token"])
    return await scene.web.post("/auth/refresh", json={"refresh_token": first})


async def another_current_password(scene: Scene) -> httpx.Response:
    body = {"current_password": "canary of a password", "new_password": "canary of another one"}
    return await scene.web.post("/me/password", json=body, headers=bearer((await scene.tokens())["access_token"]))


async def webhook_to_an_address(scene: Scene) -> httpx.Response:
    body = {"url": "https://169.254.169.254/canary", "occasions": ["experiment.started"]}
    return await scene.web.post("/webhooks", json=body, headers=ADMIN)


async def error_of_our_own(scene: Scene) -> httpx.Response:
    scene.app.application.state.limits = None
    return await scene.web.get("/experiments", params={"search": "canary"}, headers=ADMIN)


async def not_json(scene: Scene) -> httpx.Response:
    """A body that cannot be read."""
    return await scene.web.post(
        "/experiments", content=b'{"canary"', headers=ADMIN | {"Content-Type": "application/json"}
    )


async def breaks_a_rule(scene: Scene) -> httpx.Response:
    """A body whose fields are wrong."""
    return await scene.web.post("/experiments", json={"canary": "canary"}, headers=ADMIN)


async def unknown_parameter(scene: Scene) -> httpx.Response:
    """A parameter that is none."""
    return await scene.web.get("/experiments", params={"limit": "canary"}, headers=ADMIN)


SCENES: dict[Act, tuple[Event, int, dict[str, Any]]] = {
    not_json: (
        Event.INPUT_REFUSED,
        400,
        {"client": "default", "code": "malformed", "path": "/experiments", "count": 1},
    ),
    breaks_a_rule: (Event.INPUT_REFUSED, 422, {"client": "default", "code": "invalid", "count": 1}),
    unknown_parameter: (Event.INPUT_REFUSED, 422, {"code": "invalid", "count": 1}),
    by_password: (Event.SIGNED_IN, 200, {"client": "default", "how": "password", "means": "tokens", "level": "INFO"}),
    by_cookie: (Event.SIGNED_IN, 201, {"client": "default", "how": "password", "means": "cookie", "level": "INFO"}),
    wrong_password: (Event.SIGN_IN_FAILED, 401, {"how": "password", "path": "/auth/token", "client": None}),
    without_a_code: (Event.SIGN_IN_UNFINISHED, 401, {"how": "password", "level": "INFO"}),
    without_a_factor: (Event.SIGN_IN_UNFINISHED, 401, {"how": "password", "level": "INFO"}),
    wrong_code: (Event.SIGN_IN_FAILED, 401, {"how": "password and code", "client": None}),
    unknown_address: (Event.SIGN_IN_FAILED, 401, {"how": "password", "client": None}),
    from_another_site: (Event.ORIGIN_REFUSED, 403, {"path": "/auth/session"}),
    back_without_a_cookie: (Event.SIGN_IN_FAILED, 401, {"how": "provider", "path": "/auth/oidc/callback"}),
    begun_by_another_site: (Event.ORIGIN_REFUSED, 403, {"path": "/auth/oidc/login"}),
    too_often: (Event.QUOTA_EXCEEDED, 429, {"policy": '"login_account";q=5;w=3600', "how": "password"}),
    unknown_token: (Event.CREDENTIAL_REFUSED, 401, {"credential": "token", "client": None}),
    unknown_key: (
        Event.CREDENTIAL_REFUSED,
        401,
        {"credential": "key:canarycana", "path": "/experiments/{experiment_id}/assignment/{user_id:path}"},
    ),
    unknown_cookie: (Event.CREDENTIAL_REFUSED, 401, {"credential": "cookie"}),
    another_scheme: (Event.CREDENTIAL_REFUSED, 401, {"credential": "token"}),
    key_in_an_address: (Event.CREDENTIAL_EXPOSED, 401, {"credential": "key:canarycana", "path": "/experiments"}),
    key_without_the_scope: (Event.SCOPE_MISSING, 403, {"client": "default"}),
    without_csrf_token: (Event.ORIGIN_REFUSED, 403, {"client": "default", "path": "/auth/logout"}),
    key_of_another_origin: (Event.ORIGIN_REFUSED, 403, {"client": "default", "path": "/events"}),
    token_as_a_person: (Event.ACTION_FORBIDDEN, 403, {"client": "default", "path": "/me", "method": "GET"}),
    approval_of_ones_own: (Event.ACTION_FORBIDDEN, 403, {"path": "/approvals/{approval_id}/approve"}),
    unknown_invitation: (Event.INVITATION_REFUSED, 401, {"path": "/auth/invitation"}),
    unknown_refresh_token: (Event.REFRESH_REFUSED, 401, {"path": "/auth/refresh"}),
    refresh_token_of_before: (Event.REFRESH_REPLAYED, 401, {"client": "default"}),
    another_current_password: (Event.PASSWORD_REFUSED, 403, {"client": "default"}),
    webhook_to_an_address: (Event.DESTINATION_REFUSED, 422, {"client": "default", "path": "/webhooks"}),
    error_of_our_own: (Event.UNEXPECTED_ERROR, 500, {"error": "AttributeError", "level": "ERROR"}),
}


async def lines_of(act: Act, scene: Scene, heard: Heard) -> tuple[httpx.Response, list[dict[str, Any]]]:
    """The answer to an act, and what the log says of the request that it ended with."""
    answer = await act(scene)
    return answer, [line for line in heard.fields if line["request_id"] == answer.headers["x-request-id"]]


@pytest.mark.parametrize("act", SCENES, ids=lambda act: act.__name__)
async def test_an_event_is_one_line_that_says_what_who_and_where(
    app: Envelope, web: httpx.AsyncClient, heard: Heard, act: Act
) -> None:
    """With the request's id, the address of the network, method and route, and the client when it is known."""
    event, status, expected = SCENES[act]

    answer, lines = await lines_of(act, Scene(app, web), heard)

    assert answer.status_code == status
    assert [line["event"] for line in lines] == [event]
    said = lines[0]
    assert {name: said.get(name) for name in expected} == expected
    assert said["address"] == "192.0.2.7"
    assert said["method"] == answer.request.method
    assert said["level"] == expected.get("level", "WARNING")
    assert said["time"].endswith("Z")


def test_every_event_has_a_scene() -> None:
    """None can be forgotten here when it comes to the log."""
    assert {event for event, _, _ in SCENES.values()} == set(Event)


async def test_attempts_on_one_account_have_one_name(web: httpx.AsyncClient, heard: Heard) -> None:
    """Whoever succeeds, and however the address is written; another account has another one, and none is the address."""
    for fields in ({"password": "x"}, {"email": "ANN@example.com"}, {}, {"email": "eve@example.com"}):
        await web.post("/auth/token", json=SIGN_IN | fields)

    accounts = [line["account"] for line in heard.fields]
    assert len({*accounts[:3]}) == 1
    assert len({*accounts}) == 2
    assert not any("example" in line for line in heard.lines)


async def test_what_is_no_event_is_no_line(web: httpx.AsyncClient, heard: Heard) -> None:
    """Answers that are as they should be, requests without a credential, and what is not there."""
    answers = [
        await web.get("/experiments", headers=ADMIN),
        await web.get("/experiments"),
        await web.get("/experiments/none", headers=ADMIN),
        await web.get("/nothing"),
    ]

    assert [answer.status_code for answer in answers] == [200, 401, 404, 404]
    assert heard.fields == []


async def test_the_same_nonsense_is_a_line_a_minute(app: Envelope, web: httpx.AsyncClient, heard: Heard) -> None:
    """With how often it came; another path, address or kind of fault is another line, and what is remembered is bounded."""
    clock = FixedClock(stores_of(app).clock.now())
    object.__setattr__(stores_of(app), "clock", clock)
    for seconds in (0, 1, 58, 1):
        clock.advance(seconds=seconds)
        await web.post("/experiments", json={}, headers=ADMIN)
    await web.post("/experiments", content=b"{", headers=ADMIN | {"Content-Type": "application/json"})
    await web.post("/layers", json={}, headers=ADMIN)

    assert [(line["path"], line["code"], line["count"]) for line in heard.fields] == [
        ("/experiments", "invalid", 1),
        ("/experiments", "invalid", 3),
        ("/experiments", "malformed", 1),
        ("/layers", "invalid", 1),
    ]
    repeats = Repeats()
    for number in range(3 * securityevents.REMEMBERED):
        assert repeats.due(number, clock.now()) == 1
    assert len(repeats._said) == securityevents.REMEMBERED


async def test_a_webhook_that_leads_inside_when_it_is_told_is_a_line(app: Envelope, heard: Heard) -> None:
    """With its client, its id and its host; what stands behind the host may be a secret."""
    stores, caller = stores_of(app), somebody("default")
    inside = Outbound(resolve=leading({"hooks.example.com": ["10.0.0.1"]}))
    object.__setattr__(stores, "outbound", inside)
    hook, _ = await webhooks.create(
        stores, caller, "https://hooks.example.com/canary", ["experiment.started"], "standard"
    )
    await experiments.create(stores, caller, Draft("Checkout", (VariantDraft("a"), VariantDraft("b"))))

    await webhooks.deliver(stores)

    (said,) = heard.fields
    assert said["event"] == "destination.refused"
    assert (said["client"], said["webhook"], said["host"]) == ("default", hook.id, "hooks.example.com")
    assert not any("canary" in line for line in heard.lines)


HOSTILE = [
    "two\nlines",
    "two\r\nlines",
    'x" event="sign_in.succeeded',
    '{"event": "sign_in.succeeded"}',
    "\x1b[2J\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "nul\x00nul",
    "back\x08space\x7f",
    "\x85next\x9b31mline",
    "line\u2028paragraph\u2029",
    "\u202eright to left",
    "%s %(name)s {0} {name} ${jndi:ldap://x}",
    "lone \udc80 surrogate",
    "\U0001f600",
    "long" * 50_000,
]


def harmful(lines: list[str], longest: int = 4_000) -> list[str]:
    """Lines that a terminal, a file or a reader of lines could take for something else."""
    return [line[:100] for line in lines if not (line.isascii() and line.isprintable() and len(line) <= longest)]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_is_more_than_a_value(heard: Heard, text: str) -> None:
    """In whatever field it comes: one line, printable, valid, and of a length that can be read."""
    securitylog.note(Event.SIGN_IN_FAILED, address=text, client=text, path=text, host=text, method=text)

    (said,) = heard.fields
    assert said["event"] == "sign_in.failed"
    assert text.startswith(said["client"].rstrip("…"))
    assert harmful(heard.lines) == []


def test_a_log_that_writes_what_it_gets_is_caught() -> None:
    """As a format string and the formatter of the standard library do."""
    form = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    written = {
        text: form.format(logging.LogRecord("log", logging.WARNING, "", 0, "failed client=%s", (text,), None))
        for text in HOSTILE
    }

    caught = [text for text in HOSTILE if harmful([written[text]])]

    assert len(caught) == len(HOSTILE) - 3
    assert "two\nlines" in caught
    assert "\x1b[2J\x1b[31mred\x1b[0m" in caught


@pytest.mark.parametrize("form", [JsonLines(), TextLines()])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_message_and_no_error_looks_like_another_record(form: logging.Formatter, text: str) -> None:
    """Of the whole log: what an error says stands in the line of its record, or indented below it."""
    error = ValueError(text)
    record = logging.LogRecord("upshot", logging.ERROR, "", 0, "failed: %s", (text,), (ValueError, error, None))

    first, *following = form.format(record).split("\n")

    assert harmful([first], 10**9) == [] or not isinstance(form, JsonLines)
    assert all(line.startswith("  ") for line in following)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for line in (first, *following) for letter in line)
    assert isinstance(form, TextLines) or json.loads(first)["exception"].endswith(text)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_request_makes_more_than_its_line(web: httpx.AsyncClient, heard: Heard, text: str) -> None:
    """In every place that a request has for a text."""
    line = text.encode("utf-8", "surrogatepass")[:8_000].translate(None, b"\r\n\x00")
    document = json.dumps({"email": text[:200], "password": text[:900], "client": text[:100]})
    headers = [(b"authorization", b"Bearer " + line), (b"user-agent", line), (b"x-request-id", line + b"!")]

    answers = [
        await web.post("/auth/token", content=document, headers={"Content-Type": "application/json"}),
        await web.get("/experiments", headers=headers),
        await web.get("/users/x", params={"q": text[:100].replace("\udc80", "")}, headers=headers),
        await web.get("/users/x", headers=[(b"cookie", b"__Host-upshot=ups_" + line)]),
    ]

    ids = [line["request_id"] for line in heard.fields]
    refused = [answer.headers["x-request-id"] for answer in answers[:3] if answer.status_code == 401]
    assert all(answer.status_code in {400, 401, 422} for answer in answers)
    assert [one for one in ids if one in refused] == refused
    assert len(ids) == len({*ids}) <= len(answers)
    assert harmful(heard.lines) == []


def told(secrets: list[str], heard: Heard) -> set[str]:
    """Secrets that the log tells, and whatever of a canary it tells that is not the id of a key."""
    lines = [line.replace("key:canarycana", "") for line in heard.lines]
    return {secret for secret in [*secrets, PASSWORD, TOKEN, "canary"] if any(secret in line for line in lines)}


@pytest.mark.parametrize("act", SCENES, ids=lambda act: act.__name__)
async def test_no_secret_is_in_the_log(app: Envelope, web: httpx.AsyncClient, heard: Heard, act: Act) -> None:
    """No password, key, token, cookie, code or query, neither one that is good nor one that is not; at any level."""
    scene = Scene(app, web)

    await act(scene)

    assert heard.fields
    assert told(scene.secrets, heard) == set()


@pytest.mark.parametrize("part", ["url", "authorization", "cookie", "account"])
async def test_a_log_that_tells_more_is_caught(
    app: Envelope, web: httpx.AsyncClient, heard: Heard, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """One that adds the address of a request or a header to its lines, or calls an account by its address."""
    write, scene = securityevents._write, Scene(app, web)

    def leaking(request: Request, event: Event) -> None:
        securityevents.about(request, more=str(request.url) if part == "url" else request.headers.get(part))
        write(request, event)

    if part == "account":
        monkeypatch.setattr(signin, "account_of", lambda _request, _client, email: email)
    else:
        monkeypatch.setattr(securityevents, "_write", leaking)

    for act in (unknown_key, unknown_cookie, key_in_an_address, unknown_address):
        await act(scene)

    assert "canary" in told(scene.secrets, heard)


async def test_an_error_of_the_database_does_not_say_what_was_sent(
    app: Envelope, web: httpx.AsyncClient, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its statement is logged, its parameters are not: addresses, digests and hashes would be among them."""

    async def twice(self: SqlAccounts, client: str, user: Any) -> None:
        await self._connection.exec_driver_sql(
            "INSERT INTO users (id, client_id, email) VALUES (?, ?, ?)", (user.id, client, user.email)
        )

    monkeypatch.setattr(SqlAccounts, "add_user", twice)

    answer = await web.post("/users", json={"email": "canary@example.com", "role": "viewer"}, headers=ADMIN)

    assert answer.status_code == 500
    assert any("INSERT INTO users" in line for line in heard.lines)
    assert not any("canary" in line for line in heard.lines)


async def test_a_database_that_cannot_serve_is_in_the_log(tmp_path: Path, heard: Heard) -> None:
    """With its setting and its reason, so that a certificate that is none is found; without what was asked."""
    database = Database(f"sqlite:///{tmp_path / 'x.db'}", "DATABASE_URL")

    with pytest.raises(Unavailable):
        async with database.begin() as connection:
            await connection.execute(text("SELECT :name FROM nowhere"), {"name": "canary"})

    await database.close()
    assert any("DATABASE_URL: the database cannot serve this: no such table" in line for line in heard.lines)
    assert not any("canary" in line for line in heard.lines)
