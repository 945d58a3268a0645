"""A second factor in the browser: set up on one's own account, asked for at the next sign-in, required, lost."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.access.test_factors import code_at
from tests.browser.chromium import PASSWORD
from tests.servers import RunningServer

pytestmark = pytest.mark.slow


def enter(page: Page, email: str) -> None:
    """Fill in the form and send it."""
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def confirm(page: Page, button: str) -> tuple[str, list[str]]:
    """Enter the first code of the secret that is shown; returns that, and the recovery codes.

    A code is good in its half minute and in the one before and after it, so that its half minute may end on the way.
    """
    expect(page.get_by_alt_text("QR code")).to_be_visible()
    assert page.get_by_alt_text("QR code").evaluate("image => image.naturalWidth") > 100
    secret = page.locator("[data-secret]").inner_text().replace(" ", "")
    page.get_by_label("Code").fill(code_at(datetime.now(UTC), secret))
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.locator("#recovery")).to_be_visible()
    return secret, page.locator("#recovery").inner_text().split()


def person(api: httpx.Client, email: str) -> dict[str, Any]:
    """A viewer of that address."""
    made = api.post("/users", json={"email": email, "role": "viewer", "password": PASSWORD})
    assert made.status_code == 201, made.text
    return dict(made.json())


def test_a_second_factor_is_set_up_used_and_lost(visiting: Any, site: RunningServer, api: httpx.Client) -> None:
    """From the account's page on; an admin takes it off when everything is lost."""
    made = person(api, "careful@example.com")
    with visiting(None) as visit:
        page = visit.go("/sign-in")
        enter(page, "careful@example.com")
        page.wait_for_url(f"{site.url}/")
        page.get_by_role("button", name="Account").click()
        page.get_by_role("link", name="Your account").click()
        page.get_by_label("Your password").fill(PASSWORD)
        page.get_by_role("button", name="Set it up").click()
        secret, codes = confirm(page, "Set it up")
        page.get_by_role("link", name="I have kept them").click()
        expect(page.get_by_text("10 recovery codes are left")).to_be_visible()
        page.get_by_role("button", name="Account").click()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")

        visit.expected.add(401)
        enter(page, "careful@example.com")
        page.get_by_label("Code").fill("000000")
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_text("This code is not good")).to_be_visible()
        page.get_by_label("Code").fill(code_at(datetime.now(UTC) + timedelta(seconds=30), secret))
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(f"{site.url}/")
        visit.go("/dashboard/account")
        page.get_by_label("A code of your app", exact=True).fill(codes[0])
        page.get_by_role("button", name="New recovery codes").click()
        expect(page.locator("#revealed")).to_be_visible()
        assert len(page.locator("#revealed").inner_text().split()) == 10
    with visiting("admin") as visit:
        page = visit.go("/dashboard/people")
        page.on("dialog", lambda dialog: dialog.accept())
        row = page.get_by_role("row").filter(has_text="careful@example.com")
        row.get_by_role("button", name="Take off second factor").click()
        expect(row.get_by_text("second factor")).to_have_count(0)
    assert api.get(f"/users/{made['id']}").json()["second_factor"] is False


def test_where_it_is_required_it_is_set_up_while_signing_in(
    visiting: Any, site: RunningServer, api: httpx.Client
) -> None:
    """The form leads there by itself."""
    person(api, "newcomer@example.com")
    with visiting("admin") as visit:
        page = visit.go("/dashboard/settings")
        page.get_by_label("People who sign in with a password").check()
        page.locator("section:has(#factor)").get_by_role("button", name="Save").click()
        page.wait_for_load_state("networkidle")
        expect(page.get_by_label("People who sign in with a password")).to_be_checked()
    try:
        with visiting(None) as visit:
            page = visit.go("/sign-in?next=/dashboard/metrics")
            visit.expected.add(401)
            enter(page, "newcomer@example.com")
            confirm(page, "Sign in")
            page.get_by_role("link", name="I have kept them").click()
            page.wait_for_url("**/dashboard/metrics")
            visit.go("/dashboard/account")
            expect(page.get_by_text("Your admins require it.")).to_be_visible()
    finally:
        assert api.patch("/client", json={"second_factor": False}).status_code == 200
