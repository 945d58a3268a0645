"""Pictures of every page at three widths, in `docs/images`: `make screenshots`.

A server of its own, with the demonstration and made-up experiments in every state beside it; what is in the pictures is invented,
but for the demonstration, and no picture is compared with anything: people look at them.
"""

import asyncio
import random
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
from playwright.sync_api import Browser, sync_playwright
from tests.backends import program
from tests.browser.chromium import ARGUMENTS, HOW, PASSWORD, PLACES
from tests.servers import running

from upshot.cli import demonstration

FOLDER = Path(__file__).parents[2] / "docs" / "images"
TOKEN = "token-of-the-pictures"  # noqa: S105 - of a server that lives for a minute
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1280}
DEMO = f"/dashboard/experiments/{demonstration.KEY}"
PAGES = {
    "experiments": "/",
    "result": DEMO,
    "bayesian": f"{DEMO}?method=bayesian",
    "mismatch": "/dashboard/experiments/new-search",
    "doctor": "/dashboard/experiments/one-page-checkout/doctor",
    "new": "/dashboard/new",
    "edit": f"{DEMO}/edit",
    "metrics": "/dashboard/metrics",
    "events": "/dashboard/events",
    "people": "/dashboard/people",
    "audit": "/dashboard/audit",
    "settings": "/dashboard/settings",
    "account": "/dashboard/account",
}
DARK = ("experiments", "result")

# name, tags, event awaited, event sent, share of each variant's users who cause it, users of each, days
SHOWN: tuple[tuple[str, list[str], str, str, dict[str, float], dict[str, int], int], ...] = (
    ("Shorter sign-up form", ["growth"], "signup", "signup", {"long": 0.21, "short": 0.216}, {"long": 1800, "short": 1790}, 6),
    ("New search", ["search"], "search", "search", {"old": 0.30, "new": 0.36}, {"old": 2400, "new": 2010}, 9),
    ("One-page checkout", ["checkout"], "purchase", "Purchase", {"three": 0.1, "one": 0.1}, {"three": 600, "one": 610}, 4),
    ("Larger pictures", ["growth", "shop"], "buy", "buy", {"small": 0.12, "large": 0.08}, {"small": 3000, "large": 3010}, 12),
)  # fmt: skip


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(exist_ok=True)
    path = program("Chromium", HOW, *PLACES)
    environment = {"VALID_TOKENS": TOKEN}
    with tempfile.TemporaryDirectory() as name, running(Path(name), environment=environment) as server:
        asyncio.run(seed(server.url))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
            for kind, width in WIDTHS.items():
                _take(browser, server.url, kind, width, PAGES)
            _take(browser, server.url, "dark", WIDTHS["desktop"], {page: PAGES[page] for page in DARK}, "dark")
            browser.close()


def _take(browser: Browser, base: str, kind: str, width: int, pages: dict[str, str], scheme: Any = "light") -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{base}/sign-in")
    page.screenshot(path=FOLDER / f"sign-in-{kind}.png")
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"{base}/")
    for name, place in pages.items():
        page.goto(base + place)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=FOLDER / f"{name}-{kind}.png")
    if kind == "desktop":
        page.goto(base + DEMO)
        page.wait_for_load_state("networkidle")
        page.locator("section:has(#time)").screenshot(path=FOLDER / "over-time-desktop.png")
        page.goto(f"{base}/dashboard/new")
        page.get_by_role("button", name="Plan", exact=True).click()
        page.locator("#plan svg").wait_for()
        page.locator("aside").screenshot(path=FOLDER / "plan-desktop.png")
    context.close()


async def seed(url: str) -> None:
    """People, experiments in every state, metrics, a key."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as api:
        for email, name, role in (("ann@example.com", "Ann", "admin"), ("ben@example.com", "Ben", "editor")):
            await _post(api, "/users", {"email": email, "name": name, "role": role, "password": PASSWORD})
        await demonstration.send(api)
        for shown in SHOWN:
            await _experiment(api, *shown)
        variants = [{"name": "control"}, {"name": "treatment"}]
        await _post(api, "/experiments", {"name": "Quieter header", "status": "draft", "primary_metric": "visit",
                                          "variants": variants, "tags": ["growth"]})  # fmt: skip
        await api.post("/experiments/larger-pictures/complete", json={})
        for definition in (
            {"key": "spend", "kind": "sum", "event_type": "conversion", "name": "Spend", "minimum_effect": 0.02},
            {"key": "checkout", "kind": "funnel", "steps": [{"event_type": each} for each in ("view", "cart", "buy")]},
            {"key": "return-after-a-week", "kind": "retention", "event_type": "visit", "delay": "7d", "window": "7d"},
        ):
            await _post(api, "/metric-definitions", definition)
        await _post(api, "/api-keys", {"name": "shop backend", "scopes": ["assign", "events:write"]})
        await _post(
            api, "/api-keys", {"name": "shop pages", "scopes": ["assign"], "origins": ["https://shop.example.com"]}
        )


async def _experiment(
    api: httpx.AsyncClient,
    name: str,
    tags: list[str],
    awaited: str,
    sent: str,
    rates: dict[str, float],
    users: dict[str, int],
    days: int,
) -> None:
    variants = [{"name": variant} for variant in rates]
    made = {"name": name, "tags": tags, "primary_metric": awaited, "variants": variants, "owner": "ben@example.com"}
    key = (await _post(api, "/experiments", made))["key"]
    lines = list(_lines(key, sent, rates, users, days))
    for part in (0, 1):  # assignments first
        content = b"".join(line[part] for line in lines)
        sent_as = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f"{key}-{part}"}
        (await api.post(f"/experiments/{key}/import", content=content, headers=sent_as)).raise_for_status()


def _lines(
    key: str, event_type: str, rates: dict[str, float], users: dict[str, int], days: int
) -> Iterator[tuple[bytes, bytes]]:
    chance = random.Random(key)
    start = datetime.now(UTC) - timedelta(days=days)
    for variant, many in users.items():
        for number in range(many):
            at = start + timedelta(days=days * chance.random() ** 1.3)
            user = f"{key}-{variant}-{number}"
            context = {"country": chance.choice(("US", "DE", "JP")), "device": chance.choice(("phone", "desktop"))}
            assigned = {"user_id": user, "variant": variant, "assigned_at": at, "context": context}
            event = {"user_id": user, "event_type": event_type, "timestamp": at + (datetime.now(UTC) - at) * chance.random(),
                     "event_id": user}  # fmt: skip
            caused = msgspec.json.encode(event) + b"\n" if chance.random() < rates[variant] else b""
            yield msgspec.json.encode(assigned) + b"\n", caused


async def _post(api: httpx.AsyncClient, path: str, document: dict[str, Any]) -> Any:
    answer = await api.post(path, json=document)
    answer.raise_for_status()
    return answer.json()


if __name__ == "__main__":
    main()
