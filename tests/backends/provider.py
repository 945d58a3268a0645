"""An OpenID provider for tests: Canaille in a process of its own, with people, groups, clients and keys; and a browser."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from tests.backends import free_port, unavailable
from tests.backends.daemon import Daemon, ran

CALLBACK = "https://upshot.example/auth/oidc/callback"
PASSWORD = "correct horse battery staple"  # noqa: S105 - of people who live for one test
CLIENT_SECRET = "a-client-secret-of-tests"  # noqa: S105
PEOPLE = {"ada": ("analysts", "makers"), "bob": ("analysts",), "eve": ("strangers",), "sol": ()}
"""Who there is, and their groups."""

CLIENTS = {
    "upshot": ("RS256", ["upshot"]),
    "other": ("RS256", ["other"]),
    "edwards": ("EdDSA", ["edwards"]),
    "elliptic": ("ES256", ["elliptic"]),
    "padded": ("PS256", ["padded"]),
    "astray": ("RS256", ["other"]),
    "shared": ("RS256", ["shared", "other"]),
}
"""Who relies on the provider: the algorithm of the tokens it gets, and the audience that they name; `astray` gets another's."""


class CanailleProvider:
    """A running provider that can be killed, restarted with what it knew at first, and given new keys.

    Its memory confuses the unused codes of a client: a test redeems every code that it was given.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "canaille.json"
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._active = _new_keys()
        self._inactive: list[dict[str, Any]] = []
        self._write()
        script = Path(__file__).with_name("canaille_process.py")
        command = (sys.executable, "-P", str(script), str(self._file))  # -P: this folder has modules named like drivers
        self._daemon = Daemon(
            *command, log=folder / "out", user=None, ending=signal.SIGTERM, answers=self._answers
        )  # fmt: skip

    def kill(self) -> None:
        """Kill −9; consents and codes are lost."""
        self._daemon.kill()

    def start(self) -> None:
        """Start it again, on the same port and with the same people."""
        self._daemon.start()

    def stop(self) -> None:
        """End it."""
        self._daemon.stop()

    def rotate_keys(self) -> None:
        """Sign with new keys from now on; the old ones stay published."""
        self._inactive = [*self._active, *self._inactive]
        self._active = _new_keys()
        self._write()
        self._daemon.restart()

    def _write(self) -> None:
        settings = {
            "SECRET_KEY": "a-secret-of-tests",
            "SERVER_NAME": f"127.0.0.1:{self.port}",
            "PREFERRED_URL_SCHEME": "http",
            "CANAILLE": {"DATABASE": "memory", "SMTP": None, "CAPTCHA_ENABLED": False, "LANGUAGE": "en"},
            "CANAILLE_OIDC": {"ACTIVE_JWKS": self._active, "INACTIVE_JWKS": self._inactive, "TRUSTED_DOMAINS": []},
        }
        objects = {"user": _users(), "group": _groups(), "client": _clients()}
        self._file.write_text(json.dumps({"settings": settings, "objects": objects}), encoding="utf-8")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.issuer}/.well-known/openid-configuration", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def _new_keys() -> list[dict[str, Any]]:
    keys: list[Key] = [
        RSAKey.generate_key(2048, auto_kid=True),
        ECKey.generate_key("P-256", auto_kid=True),
        OKPKey.generate_key("Ed25519", auto_kid=True),
    ]
    return [dict(key.as_dict(private=True)) for key in keys]


def _users() -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "user_name": name,
            "password": PASSWORD,
            "formatted_name": f"{name.title()} of the tests",
            "family_name": "Tests",
            "emails": [f"{name}@people.example"],
        }
        for name in PEOPLE
    ]


def _groups() -> list[dict[str, Any]]:
    names = sorted({group for groups in PEOPLE.values() for group in groups})
    return [
        {"id": name, "display_name": name, "members": [who for who, groups in PEOPLE.items() if name in groups]}
        for name in names
    ]


def _client(name: str) -> str:
    return f"client {name}"  # not its client id: while a code is unused, its memory would take every nonce for a replay


def _clients() -> list[dict[str, Any]]:
    return [
        {
            "id": _client(name),
            "client_id": name,
            "client_secret": CLIENT_SECRET,
            "client_name": name,
            "client_uri": "https://upshot.example",
            "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            "scope": ["openid", "email", "profile", "groups"],
            "token_endpoint_auth_method": "client_secret_basic",
            "id_token_signed_response_alg": algorithm,
            "audience": [_client(other) for other in audience],
        }
        for name, (algorithm, audience) in CLIENTS.items()
    ]


@contextmanager
def provider(folder: Path) -> Iterator[CanailleProvider]:
    """A provider for the time of a block."""
    if find_spec("canaille") is None or find_spec("hypercorn") is None:
        unavailable("Canaille", "pip install 'canaille[front,oidc,server]'")
    running = CanailleProvider(folder)
    try:
        ran("Canaille", version("canaille"))
        yield running
    finally:
        running.stop()


class NotSignedIn(AssertionError):
    """The provider showed its sign-in form again."""


@dataclass
class Form:
    """A form of a page: where it goes, its fields as they stand, and the buttons that end it."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._form: Form | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(said.get("action", ""))
            self.forms.append(self._form)
        elif self._form is not None and tag == "button":
            self._form.buttons.append((said.get("name", ""), said.get("value", "")))
        elif self._form is not None and tag == "input" and said.get("type") not in {"submit", "checkbox", "button"}:
            self._form.fields[said["name"]] = said.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None


class Browser:
    """Somebody at a browser, who signs in and consents; it stops where the provider sends it back to us."""

    def __init__(self) -> None:
        self._client = httpx.Client(timeout=30)

    def close(self) -> None:
        """Forget the cookies."""
        self._client.close()

    def sign_in(self, url: str, name: str, password: str = PASSWORD, answer: str = "accept") -> dict[str, str]:
        """What the provider has the browser bring back, after its forms were filled in.

        Raises:
            NotSignedIn: name or password are wrong.
        """
        typed = {"login": name, "password": password}
        page = self._client.get(url)
        for _ in range(20):
            if page.is_redirect:
                place = urljoin(str(page.url), page.headers["location"])
                if place.startswith(CALLBACK):
                    return dict(parse_qsl(urlsplit(place).query))
                page = self._client.get(place)
                continue
            page = self._submit(page, typed, answer)
        raise AssertionError("the provider sends the browser in circles")

    def _submit(self, page: httpx.Response, typed: dict[str, str], answer: str) -> httpx.Response:
        assert page.status_code == 200, page.text
        for form in _Page(page.text).forms:
            asked = form.fields.keys() & {"login", "password"}
            if asked - typed.keys():
                raise NotSignedIn
            if asked or ("answer", answer) in form.buttons:
                filled = form.fields | {one: typed.pop(one) for one in asked} | ({} if asked else {"answer": answer})
                return self._client.post(urljoin(str(page.url), form.action), data=filled)
        raise AssertionError(f"no form is understood on {page.url.path}")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without cookies."""
    opened = Browser()
    try:
        yield opened
    finally:
        opened.close()
