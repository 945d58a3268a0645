"""How soon is the page of a result there, and how much is sent for it?

The demonstration's experiment (64,000 users, 9,972 events). On the server: `X-Process-Time` of the page; drawn: until the first
contentful paint in Chromium, with nothing cached; yardstick: the same result as JSON from the API. Goals: ≤ 300 ms on the server,
≤ 1 s to be drawn, pages ≤ 200 kB with stylesheet and scripts.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright
from tests.backends import program
from tests.browser.chromium import ARGUMENTS, HOW, PASSWORD, PLACES
from tests.servers import RunningServer, running

from benchmarks.report import Row, Table, bounded
from upshot.cli import demonstration

TOKEN = "token-of-the-benchmark"  # noqa: S105 - of a server that lives for one benchmark
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_SENT = "performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)"


def run(*, quick: bool) -> Table:
    """The table."""
    rounds = 3 if quick else 15
    page = f"/dashboard/experiments/{demonstration.KEY}"
    with tempfile.TemporaryDirectory() as name, running(Path(name), environment={"VALID_TOKENS": TOKEN}) as server:
        asyncio.run(_seed(server.url))
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as api:
            first = _taken(api, page)
            pages = _median(rounds, lambda: _taken(api, page))
            results = _median(rounds, lambda: _taken(api, f"/experiments/{demonstration.KEY}/results"))
        drawn, sent = _drawn(server, page, rounds)
    ratio = f"{pages / results:.2f}"
    return Table(
        "Dashboard",
        [
            bounded(
                "first page of a result, on the server", 1000 * first, "ms", 300, f"{1000 * results:.0f} ms", ratio
            ),
            bounded("page of a result, on the server", 1000 * pages, "ms", 300, f"{1000 * results:.0f} ms", ratio),
            bounded("page of a result, drawn", 1000 * drawn, "ms", 1000),
            *(_weight(path, size) for path, size in sent.items()),
        ],
    )


def _weight(path: str, size: float) -> Row:
    return bounded(f"sent for {path}, all of it", size / 1000, "kB", 200)


async def _seed(url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as client:
        await demonstration.send(client)
        person = {"email": "ann@example.com", "role": "admin", "password": PASSWORD}
        (await client.post("/users", json=person)).raise_for_status()


def _taken(api: httpx.Client, path: str) -> float:
    answer = api.get(path)
    answer.raise_for_status()
    return float(answer.headers["X-Process-Time"])


def _median(rounds: int, once: Callable[[], float]) -> float:
    return statistics.median(once() for _ in range(rounds))


def _drawn(server: RunningServer, page: str, rounds: int) -> tuple[float, dict[str, float]]:
    path = program("Chromium", HOW, *PLACES)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        seconds = statistics.median(_visit(browser, server.url, page)[0] for _ in range(rounds))
        sent = {each: _visit(browser, server.url, each)[1] for each in (page, "/", "/dashboard/new")}
        browser.close()
    return seconds, sent


def _visit(browser: Browser, base: str, path: str) -> tuple[float, float]:
    """Seconds to the first contentful paint, and bytes, of somebody who has seen nothing before."""
    context = browser.new_context()
    found = context.new_page()
    answer = context.request.post(
        f"{base}/auth/session",
        data={"email": "ann@example.com", "password": PASSWORD},
        headers={"Origin": base},
    )
    assert answer.ok, answer.status
    found.goto(base + path, wait_until="networkidle")
    paint, size = float(found.evaluate(_PAINT)) / 1000, float(found.evaluate(_SENT))
    context.close()
    return paint, size
