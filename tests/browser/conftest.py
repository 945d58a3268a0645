"""A real Chromium in front of a real server. A page that asks outside of it, breaks, or logs an error fails the test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.backends import program
from tests.backends.daemon import ran
from tests.browser.chromium import ARGUMENTS, HOW, PASSWORD, PLACES, ROLES
from tests.servers import RunningServer, running

expect.set_options(timeout=30_000)  # as long as the browser waits for pages; five seconds are few beside other tests


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The installed browser. Of a module: an event loop runs in this thread as long as it is driven, so no other may."""
    path = program("Chromium", HOW, *PLACES)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        ran("Chromium", browser.version)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a person of each role: viewer@, editor@ and admin@example.com of the client `default`."""
    environment = {"VALID_TOKENS": "token-of-the-default-client"}
    with running(tmp_path_factory.mktemp("site"), environment=environment) as server:
        with server.client("token-of-the-default-client") as api:
            for role in ROLES:
                person = {"email": f"{role}@example.com", "name": role.title(), "role": role, "password": PASSWORD}
                assert api.post("/users", json=person).status_code == 201
        said: list[str] = []
        assert server.process.stdout is not None
        listening = Thread(target=said.extend, args=[server.process.stdout], daemon=True)
        listening.start()
        yield server
        server.process.terminate()
        listening.join()
        assert not [line for line in said if "unexpected error" in line], "".join(said)


@pytest.fixture
def api(site: RunningServer) -> Iterator[httpx.Client]:
    """The API with all rights."""
    with site.client("token-of-the-default-client") as client:
        yield client


class Visit:
    """A browser window of one person, and everything that went wrong in it."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.context = context
        self.base = base
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.expected: set[int] = set()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def go(self, path: str) -> Page:
        """Open a page and wait until it is whole."""
        self.page.goto(self.base + path)
        self.page.wait_for_load_state("networkidle")
        return self.page

    def sign_in(self, role: str) -> None:
        """Sign in by the form."""
        self.go("/sign-in?next=/")
        self.page.get_by_label("E-mail address").fill(f"{role}@example.com")
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in", exact=True).click()
        self.page.wait_for_url(self.base + "/")

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not any(str(code) in message.text for code in self.expected):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        if not url.startswith((self.base + "/", "data:", "blob:")):
            self.faults.append(f"left the server: {url}")


Visiting = Callable[..., Any]


@pytest.fixture
def visiting(chromium: Browser, site: RunningServer) -> Visiting:
    """Opens a window, signed in as somebody; at the end nothing may have gone wrong in it."""

    @contextmanager
    def opened(role: str | None = "admin", **options: Any) -> Iterator[Visit]:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        try:
            visit = Visit(context, site.url)
            if role:
                visit.sign_in(role)
            yield visit
            assert visit.faults == []
        finally:
            context.close()

    return opened
