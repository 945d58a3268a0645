"""`upshot results`: the answer as tables, with the breakdowns that were asked for."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.servers import TOKEN, UNLIMITED, asking

from upshot.cli import commands
from upshot.http.app import create_app
from upshot.settings import Settings

TWO = [{"name": "a"}, {"name": "b"}]
DAYS = [f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments with the same 600 users over three days, of whom more buy in one variant, in one country."""
    path = tmp_path_factory.mktemp("data")
    asyncio.run(_filled(path))
    return path


async def _filled(folder: Path) -> None:
    app = create_app(Settings(data_dir=folder, **UNLIMITED), {TOKEN: "first"})
    async with asking(app) as client:
        for name, every in (("button", 1), ("banner", 2)):
            await client.post("/experiments", json={"name": name, "primary_metric": "buy", "variants": TWO})
            users = [
                {"user_id": f"u{n}", "variant": "ab"[n // every % 2], "assigned_at": DAYS[n % 3],
                 "context": {"country": "US" if n % 4 < 2 else "DE", "[device]": "phone"}}
                for n in range(600)
            ]  # fmt: skip
            (await client.post(f"/experiments/{name}/import", json={"assignments": users})).raise_for_status()
        buyers = [n for n in range(600) if n % 10 == 0 or (n % 4 == 1 and n % 3)]
        events = [{"user_id": f"u{n}", "type": "buy", "timestamp": "2026-01-03T12:00:00Z"} for n in buyers]
        imported = await client.post("/experiments/button/import", json={"events": events})
        imported.raise_for_status()


def printed(folder: Path, *arguments: str) -> str:
    """What the command prints, on one line."""
    call = ["button", "--data-dir", str(folder), "--token", TOKEN, *arguments]
    environment = {"TOKEN_CLIENT_ID_MAP": f"{TOKEN}:first", "COLUMNS": "160"}
    done = CliRunner().invoke(commands, ["results", *call], env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_a_result_is_a_table_at_the_level_asked_for(folder: Path) -> None:
    """The answer first; intervals narrow with the level; without a breakdown there is none."""
    usual, bold = printed(folder), printed(folder, "--confidence-level", "0.9")

    assert "button (button) is running" in usual
    assert ("95 % interval" in usual, "90 % interval" in bold) == (True, True)
    assert usual.count("control") == bold.count("control") == 2
    assert "by country" not in usual
    assert "at every look" not in usual


def test_segments_say_whether_they_differ(folder: Path) -> None:
    """Each value with its own lift, one attribute or two, and the test of whether the effect differs; names stay as they are."""
    found = printed(folder, "--metrics", "buy", "--by", "country", "--by", "[device]")

    assert "buy, b, by country country users lift 95 % interval adjusted p verdict" in found
    assert "US 300" in found
    assert "DE 300" in found
    assert "buy, b, by country: the effect differs (adjusted p = " in found
    assert "buy, b, by [device]: too little to say whether the effect differs." in found


def test_a_line_over_time_holds_at_every_look(folder: Path) -> None:
    """One row per day, from the first user's on."""
    found = printed(folder, "--metrics", "buy", "--over", "day", "--end", "2026-01-03")

    assert "buy, b: as it stood at the end of each period" in found
    assert "95 %, at every look" in found
    assert all(f"2026-01-0{day} 00:00 {100 * day}" in found for day in (1, 2, 3))


def test_two_experiments_are_looked_at_together(folder: Path) -> None:
    """Whether one's effect depends on the other's variant."""
    found = printed(folder, "--metrics", "buy", "--beside", "banner")

    assert "Does the effect depend on the other experiment?" in found
    assert "buy b banner: b 600" in found
    assert "they depend" in found


def test_everything_can_be_read_as_json(folder: Path) -> None:
    """The whole answer, whatever is asked for."""
    call = [
        "button",
        "--data-dir",
        str(folder),
        "--token",
        TOKEN,
        "--json",
        "--by",
        "country*[device]",
        "--over",
        "week",
    ]
    done = CliRunner().invoke(
        commands, ["results", *call], env={"TOKEN_CLIENT_ID_MAP": f"{TOKEN}:first"}, catch_exceptions=False
    )

    answer = json.loads(done.output)
    assert {segment["attribute"] for segment in answer["segments"]} == {"country*[device]"}
    assert answer["cumulative"]
    assert answer["confidence_level"] == 0.95
