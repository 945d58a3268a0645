"""Every answer's header fields, rule by rule and for every kind of path, as a passive scanner would judge them.

Each rule comes with an answer that breaks it, which the rule must fail.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from fastapi import Request
from starlette.responses import Response
from tests.faults.reporting import say
from tests.servers import TOKEN

from upshot.http import envelope
from upshot.http.app import create_app
from upshot.http.envelope import Envelope
from upshot.http.limits import Limits
from upshot.http.protocol import problem_bytes
from upshot.ratelimits import Quota
from upshot.ratelimits.inprocess import InProcessLimiter
from upshot.settings import Settings

YEAR = 365 * 86_400
ARMS = [{"name": "a"}, {"name": "b"}]
PAGES = {"page", "asset", "own", "own asset"}
INGEST = {"events", "assignment", "sdk", "unchanged"}
PERMISSIONS = "geolocation=(), camera=(), microphone=(), payment=(), usb=()"


@dataclass(frozen=True)
class Answer:
    """What was answered to a kind of path, with TLS or without."""

    kind: str
    path: str
    tls: bool
    status: int
    fields: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """The values of a field."""
        return [value for known, value in self.fields if known == name]

    def __getitem__(self, name: str) -> str:
        """The value of a field that is there once, or nothing."""
        values = self.all(name)
        return values[0] if len(values) == 1 else ""

    def policy(self) -> dict[str, list[str]]:
        """The directives of the content security policy."""
        parts = [part.split() for part in self["content-security-policy"].split(";")]
        return {name: values for name, *values in filter(None, parts)}

    def spoiled(self, name: str, value: str | None) -> "Answer":
        """The same with another value of a field, or without it."""
        kept = tuple((known, other) for known, other in self.fields if known != name)
        return replace(self, fields=kept if value is None else (*kept, (name, value)))


@dataclass(frozen=True)
class Rule:
    """What must hold, for which answers, and a field that breaks it."""

    name: str
    holds: Callable[[Answer], bool]
    broken: tuple[str, str | None]
    concerns: Callable[[Answer], bool] = lambda _: True


def of(*kinds: str) -> Callable[[Answer], bool]:
    """Whether an answer is of one of these kinds."""
    return lambda answer: answer.kind in kinds


def enveloped(answer: Answer) -> bool:
    """Whether the application answered. What the protocol refuses itself is no request yet, and its connection ends."""
    return answer.kind != "protocol"


def api(answer: Answer) -> bool:
    """Whether an answer is data, and not a page."""
    return enveloped(answer) and answer.kind not in PAGES


def csp(name: str, *values: str) -> Callable[[Answer], bool]:
    """A rule of the policy: what a directive says."""
    return lambda answer: answer.policy().get(name) == list(values)


def _preflight(answer: Answer) -> bool:
    """What a browser is told before it sends events: they are taken with a key that names its origins."""
    return answer.kind == "events" and answer.status == 204


def _is_published(answer: Answer) -> bool:
    """What applications decide by, or that it has not changed."""
    return answer.status in (200, 304) and answer.path.startswith(("/sdk/", "/ofrep/", "/api/features/"))


def _cookie_is_guarded(cookie: str) -> bool:
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    guarded = {"secure", "httponly", "path=/"} <= attributes and {"samesite=lax", "samesite=strict"} & attributes
    return cookie.startswith("__Host-") and bool(guarded) and len(cookie) < 4_096


_PAGE = "default-src 'none'; script-src https://cdn.example; img-src *; connect-src *; form-action *; base-uri *"
RULES = (
    Rule("types are not guessed", lambda a: a["x-content-type-options"] == "nosniff", ("x-content-type-options", None)),
    Rule(
        "TLS is kept for a year or longer, with subdomains",
        lambda a: bool(
            (found := re.fullmatch(r"max-age=(\d+); includeSubDomains", a["strict-transport-security"]))
            and int(found[1]) >= YEAR
        ),
        ("strict-transport-security", "max-age=3600"),
        lambda a: a.tls and enveloped(a),
    ),
    Rule(
        "TLS is not promised without it",
        lambda a: not a.all("strict-transport-security"),
        ("strict-transport-security", "max-age=63072000"),
        lambda a: not a.tls,
    ),
    Rule(
        "no address is told to others",
        lambda a: a["referrer-policy"] == "no-referrer",
        ("referrer-policy", "origin"),
        enveloped,
    ),
    Rule(
        "other sites do not take answers in",
        lambda a: a["cross-origin-resource-policy"] == "same-origin",
        ("cross-origin-resource-policy", "cross-origin"),
        lambda a: enveloped(a) and a.kind not in INGEST,
    ),
    Rule(
        "other sites may send events and ask for variants",
        lambda a: a["cross-origin-resource-policy"] == "cross-origin",
        ("cross-origin-resource-policy", "same-origin"),
        of(*INGEST),
    ),
    Rule("the server has no name", lambda a: not a.all("server"), ("server", "uvicorn")),
    Rule(
        "what it is made with is not told",
        lambda a: not a.all("x-powered-by") + a.all("via"),
        ("x-powered-by", "FastAPI"),
    ),
    Rule(
        "no version is told",
        lambda a: not re.search(r"(?i)(python|uvicorn|starlette|fastapi|pydantic|upshot)[/ ]v?\d", str(a.fields)),
        ("x-runtime", "Python/3.11"),
    ),
    Rule(
        "no private address is told",
        lambda a: not re.search(r"\b(127|10|192\.168)\.\d+\.\d+", str(a.fields)),
        ("x-host", "10.0.0.7"),
    ),
    Rule(
        "the request has an id",
        lambda a: bool(re.fullmatch("[0-9a-f]{32}", a["x-request-id"])),
        ("x-request-id", None),
        enveloped,
    ),
    Rule(
        "a field is said once",
        lambda a: max(Counter(name for name, _ in a.fields if name != "set-cookie").values()) == 1,
        ("vary", None),  # see `broken_answer`
    ),
    Rule(
        "data are JSON",
        lambda a: a["content-type"] == "application/json",
        ("content-type", "text/html"),
        lambda a: api(a) and a.status < 300 and a.status != 204 and a.path not in {"/livez", "/metrics"},
    ),
    Rule(
        "errors are problems",
        lambda a: a["content-type"] == "application/problem+json",
        ("content-type", "application/json"),
        lambda a: a.status >= 400 and a.kind != "own" and a.path != "/readyz" and not a.path.startswith("/ofrep/"),
    ),
    Rule(
        "texts name their characters",
        lambda a: "charset=utf-8" in a["content-type"],
        ("content-type", "text/html"),
        lambda a: a["content-type"].startswith("text/"),
    ),
    Rule(
        "data are not kept by caches",
        lambda a: a["cache-control"] == "no-store",
        ("cache-control", None),
        lambda a: (api(a) or a.kind == "protocol") and not _is_published(a),
    ),
    Rule(
        "pages that show something are kept by nobody",
        lambda a: a["cache-control"] == "no-store",
        ("cache-control", "private"),
        of("own"),
    ),
    Rule(
        "what decides is kept by who asked, and asked for again",
        lambda a: a["cache-control"] == "private, no-cache" and a["etag"].startswith('"'),
        ("cache-control", "private, no-cache, no-store"),
        lambda a: _is_published(a) and not a.path.startswith("/api/features/"),
    ),
    Rule(
        "what a public key opens is kept for half a minute",
        lambda a: a["cache-control"] == "public, max-age=30, stale-while-revalidate=3600",
        ("cache-control", "no-store"),
        lambda a: _is_published(a) and a.path.startswith("/api/features/"),
    ),
    Rule(
        "data do nothing in a browser",
        lambda a: a.policy() == {"default-src": ["'none'"], "frame-ancestors": ["'none'"]},
        ("content-security-policy", None),
        api,
    ),
    Rule(
        "nothing is loaded that is not named",
        csp("default-src", "'none'"),
        ("content-security-policy", _PAGE.replace("'none'", "*")),
    ),
    Rule("nothing is framed", csp("frame-ancestors", "'none'"), ("content-security-policy", _PAGE)),
    Rule(
        "nothing is framed in old browsers",
        lambda a: a["x-frame-options"] == "DENY",
        ("x-frame-options", "SAMEORIGIN"),
        enveloped,
    ),
    Rule(
        "pages load from here alone",
        lambda a: not re.search(r"https?:|//|\*|'unsafe-eval'", a["content-security-policy"]),
        ("content-security-policy", _PAGE),
        of(*PAGES),
    ),
    Rule(
        "pages load scripts from here",
        lambda a: "'self'" in a.policy().get("script-src", ()),
        ("content-security-policy", _PAGE),
        of(*PAGES),
    ),
    Rule(
        "scripts are files, or known by their digests",
        lambda a: "'unsafe-inline'" not in a.policy().get("script-src", ()),
        ("content-security-policy", "script-src 'self' 'unsafe-inline'"),
        of(*PAGES),
    ),
    Rule("pages ask here alone", csp("connect-src", "'self'"), ("content-security-policy", _PAGE), of(*PAGES)),
    Rule(
        "pages show images from here", csp("img-src", "'self'", "data:"), ("content-security-policy", _PAGE), of(*PAGES)
    ),
    Rule("pages use fonts from here", csp("font-src", "'self'"), ("content-security-policy", _PAGE), of(*PAGES)),
    Rule("forms are sent here", csp("form-action", "'self'"), ("content-security-policy", _PAGE), of(*PAGES)),
    Rule("a page's base stays", csp("base-uri", "'none'"), ("content-security-policy", _PAGE), of(*PAGES)),
    Rule("pages hold no plug-ins", csp("object-src", "'none'"), ("content-security-policy", _PAGE), of(*PAGES)),
    Rule(
        "pages have a browsing context of their own",
        lambda a: a["cross-origin-opener-policy"] == "same-origin",
        ("cross-origin-opener-policy", None),
        of(*PAGES),
    ),
    Rule(
        "pages use no sensors and no money",
        lambda a: a["permissions-policy"] == PERMISSIONS,
        ("permissions-policy", "usb=*"),
        of(*PAGES),
    ),
    Rule(
        "no filter of old browsers is switched on",
        lambda a: a.all("x-xss-protection") in ([], ["0"]),
        ("x-xss-protection", "1"),
    ),
    Rule(
        "other origins are not let in",
        lambda a: not [name for name, _ in a.fields if name.startswith("access-control-")],
        ("access-control-allow-origin", "*"),
        lambda a: not _preflight(a),
    ),
    Rule(
        "other origins may ask for events without cookies",
        lambda a: a["access-control-allow-origin"] == "*" and not a.all("access-control-allow-credentials"),
        ("access-control-allow-credentials", "true"),
        _preflight,
    ),
    Rule(
        "cookies are guarded",
        lambda a: all(map(_cookie_is_guarded, a.all("set-cookie"))),
        ("set-cookie", "__Host-xp=a; Path=/; Secure"),
    ),
    Rule(
        "who is unknown is told how to sign in",
        lambda a: a["www-authenticate"].startswith("Bearer "),
        ("www-authenticate", None),
        lambda a: a.status == 401,
    ),
    Rule(
        "who must wait is told how long",
        lambda a: bool(re.fullmatch("[1-9][0-9]*", a["retry-after"])),
        ("retry-after", "0"),
        lambda a: a.status in {429, 503},
    ),
    Rule(
        "quotas are told",
        lambda a: bool(re.fullmatch(r'"[a-z]+";r=\d+;t=\d+', a["ratelimit"]) and a["ratelimit-policy"]),
        ("ratelimit", None),
        of("limited"),
    ),
)


def failed(answers: list[Answer]) -> dict[str, list[Answer]]:
    """The answers that break each rule; rules that concern none of them fail, too."""
    found = {}
    for rule in RULES:
        concerned = [answer for answer in answers if rule.concerns(answer)]
        broken = [answer for answer in concerned if not rule.holds(answer)]
        if broken or not concerned:
            found[rule.name] = broken
        verdict = "PASS" if rule.name not in found else "FAIL"
        say(f"{verdict}  {rule.name} ({len(concerned)} answers)")
    return found


def limited(app: Envelope) -> None:
    """Give an application a path that may be asked once a minute, and one that breaks."""
    limits = Limits(InProcessLimiter(), {"export": Quota("export", 1 / 60, 1)})

    @app.application.get("/limited")
    async def ask(request: Request) -> Response:
        request.state.headers = await limits.charge("export", "first", "a")
        return Response(b"{}", media_type="application/json")

    @app.application.get("/broken")
    async def fail() -> None:
        raise RuntimeError("/secret/path")


REQUESTS = {
    "api": (
        "GET /experiments", "GET /openapi.json", "GET /experiments/none", "GET /nowhere", "PUT /experiments", "POST /experiments",
        "GET /experiments?limit=0", "OPTIONS /experiments", "GET /experiments/running/results", "GET /broken",
    ),
    "events": ("POST /events", "POST /events/batch", "GET /events/types", "GET /events/recent", "OPTIONS /events"),
    "assignment": ("GET /experiments/running/assignment/u", "GET /experiments/none/assignment/u"),
    "health": ("GET /livez", "GET /readyz", "GET /metrics"),
    "page": ("GET /docs", "GET /redoc"),
    "own": ("GET /setup", "GET /sign-in", "GET /", "GET /dashboard/experiments/running", "GET /dashboard/none",
            "GET /shared/a/b"),
    "asset": ("GET /assets/docs/swagger-ui.css", "GET /assets/docs/none.js"),
    "own asset": ("GET /assets/pages/upshot.js",),
    "limited": ("GET /limited",),
    "sdk": (
        "GET /sdk/config", "POST /ofrep/v1/evaluate/flags", "POST /ofrep/v1/evaluate/flags/none", "POST /exposures",
        "POST /beacon", "GET /api/features/{public_key}", "GET /api/features/none", "GET /sub/none",
    ),
}  # fmt: skip
EVENT = {"user_id": "u", "event_type": "e"}
CONTEXT = {"context": {"targetingKey": "u"}}
BODIES = {
    "/events": EVENT, "/events/batch": {"events": [EVENT]}, "/beacon": {"key": "none", "events": [EVENT]},
    "/exposures": {"exposures": [{"user_id": "v", "experiment": "running", "variant": "a"}]},
    "/ofrep/v1/evaluate/flags": CONTEXT, "/ofrep/v1/evaluate/flags/none": CONTEXT,
}  # fmt: skip
PAGE = {"name": "page", "scopes": ["assign"], "origins": ["https://elsewhere.example"]}
CROSS_ORIGIN = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}


async def asked(folder: Path) -> list[Answer]:
    """Every kind of path, asked by a client, by a stranger and of a busy server, with TLS and without."""
    app = create_app(Settings(data_dir=folder), {TOKEN: "first"})
    limited(app)
    busy = Envelope(app.application, app.application, 0)
    known = {"Authorization": f"Bearer {TOKEN}"}
    found = []
    async with app.lifespan():
        for url in ("http://upshot", "https://upshot"):
            found += await answers_of(app, url, known, set(REQUESTS))
            found += await answers_of(app, url, {}, set(REQUESTS))
            # It answers those who watch it, knows no pages, and charges nobody.
            found += await answers_of(busy, url, known, {"api", "events", "assignment"})
    return [*found, *refused()]


async def answers_of(app: Envelope, url: str, headers: dict[str, str], kinds: set[str]) -> list[Answer]:
    """The answers to all requests of some kinds."""
    found = []
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
        await client.post("/experiments", json={"name": "running", "status": "running", "variants": ARMS})
        page = (await client.post("/api-keys", json=PAGE)).json().get("id", "none")
        for place, line in [(kind, line) for kind in REQUESTS if kind in kinds for line in REQUESTS[kind]]:
            method, path = line.format(public_key=page).split()
            origin = {} if path.startswith("/api/features/") else CROSS_ORIGIN  # servers ask for these, too
            answer = await client.request(method, path, json=BODIES.get(path), headers=origin)
            found.append(_answer(place, path, answer))
            if "etag" in answer.headers and place == "sdk":
                known = {"If-None-Match": answer.headers["etag"]}
                again = await client.request(method, path, json=BODIES.get(path), headers=known)
                found.append(_answer("unchanged", path, again))
    return found


def _answer(kind: str, path: str, answer: httpx.Response) -> Answer:
    fields = tuple((name.lower(), value) for name, value in answer.headers.multi_items())
    return Answer(kind, path, answer.url.scheme == "https", answer.status_code, fields)


def refused() -> Iterator[Answer]:
    """What the protocol says itself to what is no request."""
    for status in (400, 408, 431, 503):
        retry = [(b"retry-after", b"1")] if status == 503 else []
        head = problem_bytes(status, "code", "Title", "Detail.", retry).partition(b"\r\n\r\n")[0].decode()
        fields = (line.split(": ", 1) for line in head.split("\r\n")[1:])
        yield Answer("protocol", "", tls=False, status=status, fields=tuple((name, value) for name, value in fields))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    """All of them."""
    return asyncio.run(asked(tmp_path_factory.mktemp("headers")))


def test_every_answer_keeps_every_rule(answers: list[Answer]) -> None:
    """No rule fails, for no page."""
    statuses = {answer.status for answer in answers}
    found = failed(answers)

    assert {200, 201, 304, 401, 404, 405, 415, 422, 429, 500, 503} <= statuses
    assert len(RULES) >= 22
    assert {name: {answer.path for answer in broken} for name, broken in found.items()} == {}


def broken_answer(rule: Rule, answer: Answer) -> Answer:
    """The answer with the field that breaks the rule."""
    name, value = rule.broken
    if rule.name == "a field is said once":
        return replace(answer, fields=(*answer.fields, *answer.fields[:1]))
    return answer.spoiled(name, value)


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_every_rule_can_fail(answers: list[Answer], rule: Rule) -> None:
    """The negative controls: an answer that breaks the rule is caught by it, whatever kind of answer it concerns."""
    concerned = [answer for answer in answers if rule.concerns(answer)]

    assert concerned
    assert [answer for answer in concerned if rule.holds(broken_answer(rule, answer))] == []


def test_an_envelope_without_a_content_security_policy_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole application with that one field left out: the table fails, for data and for pages."""
    for name in ("_API", "_INGEST", "_OWN", "_DOCUMENTATION"):
        without = [[f for f in fields if f[0] != b"content-security-policy"] for fields in getattr(envelope, name)]
        monkeypatch.setattr(envelope, name, tuple(without))

    found = failed(asyncio.run(asked(tmp_path)))

    assert {"data do nothing in a browser", "nothing is framed", "forms are sent here"} <= found.keys()
    assert {answer.kind for answer in found["nothing is framed"]} >= {"api", "events", "assignment", "page", "own"}
