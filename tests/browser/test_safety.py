"""Who may see and do what in the browser, and that no text of a user's becomes a script."""

from importlib.resources import files
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect
from tests.browser.chromium import PASSWORD
from tests.servers import RunningServer

AXE = files("axe_playwright_python") / "axe.min.js"

pytestmark = pytest.mark.slow

CORPUS = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "'\"`--><svg/onload=window.pwned=1>",
    "</title><script>window.pwned=1</script>",
    "javascript:window.pwned=1",
    "{{ 7 * 7 }}{% for x in y %}",
    "<a href=javascript:window.pwned=1>x</a>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;",
)
FORGE = """headers => fetch("/experiments", {
  method: "POST",
  headers: {"Content-Type": "application/json", ...headers},
  body: JSON.stringify({name: "forged", variants: [{name: "a"}, {name: "b"}]}),
}).then(answer => answer.status)"""
PAGES = ("/", "/dashboard/metrics", "/dashboard/events", "/dashboard/people", "/dashboard/audit", "/dashboard/settings",
         "/dashboard/new", "/dashboard/account")  # fmt: skip


@pytest.fixture(scope="module")
def hostile(site: RunningServer) -> list[str]:
    """An experiment for every text of the corpus, in every field that takes one; their keys."""
    with site.client("token-of-the-default-client") as api:
        return spread(api)


def spread(api: httpx.Client) -> list[str]:
    """The corpus, sent in."""
    keys = []
    for place, text in enumerate(CORPUS):
        key = f"hostile-{place}"
        made = {
            "name": text[:120], "key": key, "description": text, "hypothesis": text, "tags": [text[:120]], "owner": text,
            "primary_metric": text, "metrics": [f"{text}:count"],
            "variants": [{"name": text[:100]}, {"name": f"{text[:100]} b", "config": {"text": text}}],
            "targeting": {"attribute": "country", "operator": "ne", "value": text}, "guardrails": [f"{text} guard"],
        }  # fmt: skip
        assert api.post("/experiments", json=made).status_code == 201, text
        api.get(f"/experiments/{key}/assignment/{place}", params={"country": "US", "segment": text})
        for user in range(20):
            api.get(f"/experiments/{key}/assignment/user-{user}", params={"segment": text})
        api.post("/events", json={"user_id": "user-1", "event_type": text, "properties": {text: text}})
        api.post(
            "/metric-definitions", json={"key": f"m{place}", "name": text, "description": text, "event_type": text}
        )
        keys.append(key)
    api.post("/users", json={"email": "x@example.com", "name": CORPUS[0], "role": "viewer"})
    api.post("/api-keys", json={"name": CORPUS[1], "scopes": ["assign"]})
    return keys


def test_no_text_becomes_a_script(visiting: Any, hostile: list[str]) -> None:
    """The corpus of scripts in every name, on every page."""
    with visiting("admin") as visit:
        paths = [
            *PAGES,
            *(f"/dashboard/experiments/{key}{part}" for key in hostile for part in ("", "/doctor", "/edit")),
        ]
        for path in paths:
            page = visit.go(path)
            assert page.evaluate("window.pwned") is None, path
            assert page.locator("img[src=x], svg[onload], a[href^='javascript']").count() == 0, path
        visit.go(f"/dashboard/experiments/{hostile[0]}")
        expect(visit.page.locator("h1")).to_contain_text(CORPUS[0])


def test_a_page_that_does_not_escape_is_caught(visiting: Any) -> None:
    """The negative control: in a page without our policy the same text is a script."""
    with visiting(None) as visit:
        visit.page.set_content(f"<h1>{CORPUS[1]}</h1>")
        visit.page.wait_for_function("window.pwned === 1")
        visit.faults.clear()


def test_roles(visiting: Any) -> None:
    """A viewer sees nothing to change, an editor nothing of people; the address alone does not help."""
    with visiting("viewer") as visit:
        page = visit.go("/")
        expect(page.get_by_role("link", name="New experiment")).to_have_count(0)
        expect(page.get_by_role("link", name="People")).to_have_count(0)
        visit.expected.add(403)
        for path in ("/dashboard/new", "/dashboard/people", "/dashboard/audit", "/dashboard/settings"):
            visit.go(path)
            expect(page.get_by_text("Your role does not allow that")).to_be_visible()
    with visiting("editor") as visit:
        visit.expected.add(403)
        visit.go("/dashboard/people")
        expect(visit.page.get_by_text("Your role does not allow that")).to_be_visible()


def test_sign_in_and_out(visiting: Any, site: RunningServer) -> None:
    """Whoever is not signed in is asked to and comes back to where they wanted; a wrong password is said; out is out."""
    with visiting(None) as visit:
        page = visit.go("/dashboard/metrics")
        assert page.url == f"{site.url}/sign-in?next=/dashboard/metrics"
        page.get_by_label("E-mail address").fill("viewer@example.com")
        page.get_by_label("Password").fill("wrong")
        visit.expected.add(401)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.locator("p.fault")).to_be_visible()
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url("**/dashboard/metrics")
        page.get_by_role("button", name="Account").click()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
        visit.go("/dashboard/metrics")
        assert "/sign-in" in page.url


def test_nobody_is_sent_elsewhere(visiting: Any, site: RunningServer) -> None:
    """`next` is a path of ours or nothing."""
    for wanted in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"):
        with visiting(None) as visit:
            page = visit.go(f"/sign-in?next={wanted}")
            assert page.locator("form").get_attribute("data-then") == "/"


def test_an_invitation(visiting: Any, api: httpx.Client) -> None:
    """An admin invites in the page; the link leads to a password, and in."""
    with visiting("admin") as visit:
        page = visit.go("/dashboard/people")
        page.get_by_label("Address").fill("new@example.com")
        page.get_by_role("button", name="Invite").click()
        link = revealed(page)
    with visiting(None) as visit:
        page = visit.page
        page.goto(link)
        assert page.url.endswith("/setup")  # the secret is gone from the address
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Choose this password").click()
        page.wait_for_url(visit.base + "/")
        expect(page.get_by_role("button", name="Account")).to_contain_text("new@example.com")


def test_a_key_is_shown_once(visiting: Any) -> None:
    """Made, shown, and gone with the next page; revoked by a button."""
    with visiting("admin") as visit:
        page = visit.go("/dashboard/people")
        form = page.locator('form[data-send="POST /api-keys"]')
        form.get_by_label("Name").fill("shop")
        form.get_by_role("button", name="Make a key").click()
        key = revealed(page)
        assert key.startswith("upk_")
        assert key not in visit.go("/dashboard/people").content()
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("row", name="shop").get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("row", name="shop")).to_contain_text("revoked")


def test_a_change_from_elsewhere_is_refused(visiting: Any, api: httpx.Client) -> None:
    """The cookie alone changes nothing: without the token of the page, and with one that was made up."""
    with visiting("editor") as visit:
        visit.expected.add(403)
        for headers in ({}, {"X-CSRF-Token": "A" * 43}):
            status = visit.page.evaluate(FORGE, headers)
            assert status == 403
    assert api.get("/experiments", params={"search": "forged"}).json()["experiments"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(visiting: Any, api: httpx.Client, scheme: str) -> None:
    """WCAG 2.2 AA as far as axe can tell: no violation on any page, in both themes."""
    made = {"name": f"read {scheme}", "primary_metric": "read", "variants": [{"name": "a"}, {"name": "b"}]}
    key = api.post("/experiments", json=made).json()["key"]
    for user in range(200):
        variant = api.get(f"/experiments/{key}/assignment/r-{user}", params={"country": "US"}).json()["variant"]["name"]
        if variant == "b" or user % 3 == 0:
            api.post("/events", json={"user_id": f"r-{user}", "event_type": "read"})
    parts = ("", "?method=bayesian", "/doctor", "/edit")
    paths = [*PAGES, "/dashboard/nowhere", *(f"/dashboard/experiments/{key}{part}" for part in parts)]
    found = {}
    with visiting("admin", color_scheme=scheme) as visit:
        visit.expected.add(404)
        for path in paths:
            page = visit.go(path)
            found[path] = violations(page)
    with visiting(None, color_scheme=scheme) as visit:
        for path in ("/sign-in", "/setup#invitation"):
            found[path] = violations(visit.go(path))
    assert {path: each for path, each in found.items() if each} == {}


def test_axe_finds_what_is_wrong(visiting: Any) -> None:
    """The negative control: a field without a label is a violation."""
    with visiting(None) as visit:
        page = visit.go("/sign-in")
        page.evaluate("document.querySelector('main').append(document.createElement('input'))")
        assert any("label" in each for each in violations(page))


def revealed(page: Any) -> str:
    """What is shown once, when it is there."""
    place = page.locator("#revealed")
    expect(place).not_to_be_empty()
    text: str = place.inner_text()
    return text


def violations(page: Any) -> list[str]:
    """What axe has against a page, in words."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)
    return [f"{each['id']}: {node['html'][:160]}" for each in found["violations"] for node in each["nodes"]]


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_no_page_is_wider_than_the_window(visiting: Any, hostile: list[str], width: int) -> None:
    """From a phone to a wide screen only tables scroll."""
    with visiting("admin", viewport={"width": width, "height": 800}) as visit:
        for path in (*PAGES, *(f"/dashboard/experiments/{hostile[0]}{part}" for part in ("", "/doctor"))):
            page = visit.go(path)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, path


def test_a_shared_result(visiting: Any, api: httpx.Client) -> None:
    """Made in the page, read by somebody without an account, taken back."""
    api.post(
        "/experiments", json={"name": "to share", "primary_metric": "buy", "variants": [{"name": "a"}, {"name": "b"}]}
    )
    with visiting("editor") as visit:
        page = visit.go("/dashboard/experiments/to-share")
        page.get_by_role("button", name="Make a link").click()
        link = revealed(page)
        with visiting(None) as stranger:
            shown = stranger.go(link.removeprefix(stranger.base))
            expect(shown.get_by_role("heading", name="to share")).to_be_visible()
            expect(shown.locator("#segments + div")).to_contain_text("no context")
            assert shown.locator("button[data-send], form").count() == 0
            visit.go("/dashboard/experiments/to-share")
            page.get_by_role("button", name="Take back").click()
            expect(page.get_by_role("button", name="Take back")).to_have_count(0)
            stranger.expected.add(404)
            stranger.go(link.removeprefix(stranger.base))
            expect(shown.get_by_text("does not lead anywhere")).to_be_visible()
