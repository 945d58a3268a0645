"""`upshot doctor EXPERIMENT`: what is wrong and what to do, as the server says it."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.servers import TOKEN, UNLIMITED, asking

from upshot.cli import commands
from upshot.http.app import create_app
from upshot.settings import Settings

TWO = [{"name": "a"}, {"name": "b"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments with a user each; one waits for what is sent, the other for the same in another case."""
    path = tmp_path_factory.mktemp("data")
    asyncio.run(_filled(path))
    return path


async def _filled(folder: Path) -> None:
    app = create_app(Settings(data_dir=folder, **UNLIMITED), {TOKEN: "first"})
    async with asking(app) as client:
        for name, waited in (("sound", "[Purchase]"), ("broken", "[purchase]")):
            await client.post("/experiments", json={"name": name, "primary_metric": waited, "variants": TWO})
            await client.get(f"/experiments/{name}/assignment/u1")
        await client.post("/events", json={"user_id": "u1", "event_type": "[Purchase]"})


def examined(folder: Path, *arguments: str) -> Result:
    """What the command prints, and its exit code."""
    environment = {"TOKEN_CLIENT_ID_MAP": f"{TOKEN}:first", "COLUMNS": "200"}
    call = ["doctor", *arguments, "--data-dir", str(folder)]
    return CliRunner().invoke(commands, call, env=environment, catch_exceptions=False)


def test_a_mistake_is_told_with_its_remedy(folder: Path) -> None:
    """Exit code 1; names stay as they are, and the calls are there to paste."""
    done = examined(folder, "broken")
    printed = " ".join(done.output.split())

    assert done.exit_code == 1
    assert "broken (broken) is running; checked 20" in printed
    assert (
        "✗ name mismatch: You send “[Purchase]” (1 event), the metrics “[purchase]”, “revenue” wait for “[purchase]”."
        in printed
    )
    assert "→ Send “[purchase]”, or let the metric wait for the name that is sent." in printed
    assert "users: 1 assigned, 1 exposed, 0 (0.0%) with an awaited event at or after the exposure" in printed
    assert "[purchase] [purchase], revenue 0 never [Purchase] (1)" in printed
    assert '"event_type": "[purchase]"' in printed


def test_a_sound_experiment_is_well(folder: Path) -> None:
    """Exit code 0; the whole of it as JSON on request."""
    done, whole = examined(folder, "sound"), examined(folder, "sound", "--json")

    assert (done.exit_code, whole.exit_code) == (0, 0)
    assert "✓ all well: 1 user exposed, 100.0% of them with an awaited event" in " ".join(done.output.split())
    found = json.loads(whole.output)
    assert found["counts"]["joined_users"] == 1
    assert [finding["code"] for finding in found["findings"]] == ["all_well"]


def test_without_an_experiment_the_server_is_checked(folder: Path) -> None:
    """As ever."""
    done = examined(folder)

    assert done.exit_code == 0
    assert "ok    stores" in done.output
