"""`upshot calibrate`: a table or JSON, an exit code that a scheduled job can rely on, and one line when something is wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.servers import TOKEN, running

from upshot.calibration import Design, Simulation, synthetic
from upshot.cli import main
from upshot.metrics import Kind

SMALL = ("--simulations", "20", "--days", "2", "--users-per-day", "2000")


Command = Callable[..., str]


@pytest.fixture
def calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command here, in a folder of its own; what it prints, or the line that it fails with."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["upshot", "calibrate", *arguments])
        try:
            main()
            found = 0
        except SystemExit as ended:
            found = int(ended.code or 0)
        printed = capsys.readouterr()
        assert found == code, printed.err
        return printed.out or printed.err

    return run


def checks(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The checks of a JSON answer, by what they are about."""
    return {(check["subject"], check["name"]): check for check in document["checks"]}


def test_everything_is_counted_and_bounded(calibrate: Command, tmp_path: Path) -> None:
    """As JSON and as a table; a run without stores leaves nothing behind, and repeats itself."""
    first = json.loads(calibrate(*SMALL, "--json"))
    again = json.loads(calibrate(*SMALL, "--json"))
    shown = calibrate(*SMALL, "--metric", "conversion")

    assert first == again
    assert list(tmp_path.iterdir()) == []
    assert first["outside"] == 0
    assert first["design"]["simulations"] == 20
    assert {subject for subject, _ in checks(first)} == {"conversion", "sum", "sample ratio"}
    alarms = checks(first)["conversion", "false alarm, always_valid"]
    assert (alarms["runs"], alarms["promise"], alarms["low"], alarms["inside"]) == (20, 0.05, 0, True)
    assert checks(first)["sum", "p <= .05 at any look (peeking)"]["inside"] is None
    assert "false alarm, group_sequential" in shown
    assert "all inside" in shown
    assert "sum" not in shown


def test_what_is_outside_is_the_exit_code(calibrate: Command) -> None:
    """Uncapped revenue of 1 % of the users, against Welch's test: false alarms as known, and a code that stops a job."""
    split = ("--split", "99:1", "--metric", "sum", "--lift", "0.5")
    shown = calibrate("--simulations", "100", "--days", "2", "--users-per-day", "5000", *split, "--json", code=1)
    assert json.loads(shown)["outside"] > 0
    assert checks(json.loads(shown))["sum", "false alarm, fixed at the end"]["inside"] is False
    assert "OUTSIDE" in calibrate("--simulations", "100", "--days", "2", "--users-per-day", "5000", *split, code=1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--split", "50"], "--split"),
        (["--metric", "retention"], "--metric"),
        (["--metric", "sum", "--metric", "sum"], "--metric"),
        (["--baseline", "0"], "--baseline"),
        (["--lift", "0"], "effect"),
        (["--baseline", "0.6", "--lift", "0.9"], "share"),
        (["--days", "2", "--users-per-day", "10", "--baseline", "0.9"], "too few"),
    ],
)
def test_a_fault_is_one_line(calibrate: Command, arguments: list[str], named: str) -> None:
    """It says what is wrong, before anything is simulated."""
    shown = calibrate(*arguments, code=2)
    assert named in shown
    assert len(shown.strip().splitlines()) == 1


@pytest.mark.slow
def test_many_runs_are_shared_out_among_processes(tmp_path: Path) -> None:
    """The counts are those of one process."""
    design = Design(synthetic(0.05, (Kind.CONVERSION,), np.random.default_rng(2_026)), 2, 1_000, simulations=130)
    simulation = Simulation(design)
    call = [
        sys.executable,
        "-m",
        "upshot",
        "calibrate",
        "--days",
        "2",
        "--simulations",
        "130",
        "--metric",
        "conversion",
    ]
    done = subprocess.run([*call, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    expected = [check.count for check in simulation.checks(simulation.tally(range(130)))]
    assert [check["count"] for check in json.loads(done.stdout)["checks"]] == expected


@pytest.mark.slow
def test_the_users_of_an_experiment_are_drawn_again(
    calibrate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its control's users, with a server and without one; an unknown experiment and too few users are one line."""
    monkeypatch.setenv("TOKEN_CLIENT_ID_MAP", f"{TOKEN}:first")
    now = datetime.now(UTC)
    users = [f"user-{number}" for number in range(300)]
    rows: list[dict[str, Any]] = [
        {"user_id": user, "variant": "a" if number % 3 else "b", "assigned_at": (now - timedelta(days=2)).isoformat()}
        for number, user in enumerate(users)
    ]
    rows += [
        {
            "user_id": user, "event_type": "buy", "timestamp": (now - timedelta(days=1)).isoformat(),
            "properties": {"price": 5 + number % 7},
        }
        for number, user in enumerate(users) if number % 4 == 0
    ]  # fmt: skip
    document = {"name": "Real", "key": "real", "primary_metric": "buy", "variants": [{"name": "a"}, {"name": "b"}]}
    asked = (*SMALL, "--experiment", "real", "--data-dir", "data", "--json")
    with running(tmp_path / "data") as server, server.client() as client:
        assert client.post("/experiments", json=document).status_code == 201
        content = "\n".join(map(json.dumps, rows))
        headers = {"Content-Type": "application/x-ndjson"}
        assert client.post("/experiments/real/import", content=content, headers=headers).status_code == 200
        served = json.loads(calibrate(*asked))
        few = {"name": "Few", "key": "few", "variants": [{"name": "a"}, {"name": "b"}]}
        assert client.post("/experiments", json=few).status_code == 201
    alone = json.loads(calibrate(*asked, "--metric", "buy", "--metric", "revenue"))

    assert {subject for subject, _ in checks(served)} == {"buy", "sample ratio"}
    assert {subject for subject, _ in checks(alone)} == {"buy", "revenue", "sample ratio"}
    assert checks(alone)["buy", "interval covers the lift"] == checks(served)["buy", "interval covers the lift"]
    for key in ("few", "unheard-of"):
        shown = calibrate(*SMALL, "--experiment", key, "--data-dir", "data", code=1)
        assert len(shown.strip().splitlines()) == 1
