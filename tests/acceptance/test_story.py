"""The whole loop as a stranger meets it: a real server process, HTTP and the command line, and published figures at the end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.servers import TOKEN, RunningServer, running

from upshot.demo import hillstrom

KEY = "hillstrom"

# The figures that statistics.md lists, computed there with statsmodels, SciPy and R.
USERS = {"no_email": 21_306, "mens_email": 21_307, "womens_email": 21_387}
VALUES = {
    "visit": {"no_email": 0.106167, "mens_email": 0.182757, "womens_email": 0.151400},
    "conversion": {"no_email": 0.00572609, "mens_email": 0.01253109, "womens_email": 0.00883714},
    "spend": {"no_email": 0.652789, "mens_email": 1.422617, "womens_email": 1.077202},
}
P_VALUES = {
    ("visit", "mens_email"): 5.685e-112,
    ("conversion", "mens_email"): 1.5232e-13,
    ("conversion", "womens_email"): 1.57105e-4,
    ("spend", "mens_email"): 1.16381e-7,
    ("spend", "womens_email"): 0.00112940,
}


def upshot(*arguments: str, data_dir: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line beside a server."""
    call = [sys.executable, "-m", "upshot", *arguments, "--data-dir", str(data_dir)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done


def check_published_figures(result: dict[str, Any]) -> None:
    """Every figure that was published, to six digits."""
    variants = {variant["name"]: variant for variant in result["variants"]}
    assert {name: variant["assigned_users"] for name, variant in variants.items()} == USERS
    assert result["health"]["sample_ratio"]["p_value"] == pytest.approx(0.9037, abs=5e-5)
    for metric, values in VALUES.items():
        for name, value in values.items():
            assert variants[name]["metrics"][metric]["value"] == pytest.approx(value, abs=6e-7), (metric, name)
    compared = {(c["metric"], c["variant"]): c for c in result["comparisons"]}
    for key, p_value in P_VALUES.items():
        assert compared[key]["p_value"] == pytest.approx(p_value, rel=1e-4), key
    assert compared["visit", "mens_email"]["statistic"] == pytest.approx(22.48604, abs=5e-6)
    assert compared["spend", "mens_email"]["statistic"] == pytest.approx(5.30014, abs=5e-6)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path]]:
    """A server that holds the Hillstrom campaign, sent by the command line from files."""
    folder = tmp_path_factory.mktemp("campaign")
    data = hillstrom.load()
    start = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    (folder / "assignments.ndjson").write_bytes(b"".join(hillstrom.assignments(data, start)))
    (folder / "events.ndjson").write_bytes(b"".join(hillstrom.events(data, start)))
    with running(folder / "data") as server:
        with server.client() as client:
            assert client.post("/experiments", json=hillstrom.experiment(KEY)).status_code == 201
        files = ["--assignments", str(folder / "assignments.ndjson"), "--events", str(folder / "events.ndjson")]
        done = upshot("import", "--experiment", KEY, *files, "--token", TOKEN, data_dir=folder / "data")
        assert "assignments: 64000 new, 0 known already, 0 refused" in done.stdout
        yield server, folder


@pytest.mark.slow
def test_hillstroms_published_figures_come_out(campaign: tuple[RunningServer, Path]) -> None:
    """Over HTTP and from the command line alike; a second import of the same files adds nothing."""
    server, folder = campaign
    files = ["--assignments", str(folder / "assignments.ndjson"), "--events", str(folder / "events.ndjson")]

    again = upshot("import", "--experiment", KEY, *files, "--token", TOKEN, data_dir=folder / "data")
    with server.client() as client:
        over_http = client.get(f"/experiments/{KEY}/results").json()
    by_command = json.loads(upshot("results", KEY, "--json", "--token", TOKEN, data_dir=folder / "data").stdout)

    assert "assignments: 0 new, 64000 known already, 0 refused" in again.stdout
    check_published_figures(over_http)
    check_published_figures(by_command)
    assert over_http["summary"]["recommendation"] == "ship"
    assert over_http["summary"]["leader"] == "mens_email"


@pytest.mark.slow
def test_the_terminal_shows_the_answer_first(campaign: tuple[RunningServer, Path]) -> None:
    """The recommendation, the sample ratio, then one table per metric."""
    _, folder = campaign

    shown = upshot("results", KEY, "--token", TOKEN, data_dir=folder / "data").stdout

    assert shown.index("ship: mens_email is better than no_email in visit by +72.1%") < shown.index(
        "visit (conversion)"
    )
    assert "sample ratio as planned" in shown
    assert "18.2757%" in shown


@pytest.mark.slow
def test_an_export_adds_up_to_the_result(campaign: tuple[RunningServer, Path]) -> None:
    """One line per customer, in every format; the visits are those of the result."""
    server, _ = campaign
    with server.client() as client:
        lines = client.get(f"/experiments/{KEY}/results/export?format=ndjson").text.splitlines()
        table = client.get(f"/experiments/{KEY}/results/export?format=csv").text.splitlines()

    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(table) - 1 == 64_000
    assert sum(row["visit"] for row in rows if row["variant"] == "mens_email") == 3_894


def test_create_assign_record_answer(server: RunningServer) -> None:
    """Four calls, and the first result."""
    with server.client() as client:
        created = client.post(
            "/experiments",
            json={"name": "Button", "primary_metric": "purchase", "variants": [{"name": "blue"}, {"name": "green"}]},
        ).json()
        given = [client.get(f"/experiments/{created['id']}/assignment/user-{n}?country=US").json() for n in range(20)]
        sent = client.post(
            "/events",
            json=[{"user_id": f"user-{n}", "type": "purchase", "properties": {"price": 10}} for n in range(5)],
        )
        result = client.get(f"/experiments/{created['key']}/results").json()

    assert sent.status_code == 201
    assert sent.json() == {"accepted": 5, "duplicates": 0, "conflicts": 0, "rejected": []}
    assert result["summary"]["total_users"] == 20
    assert result["summary"]["global_conversion_rate"] == 0.25
    assert {v["name"]: v["assigned_users"] for v in result["variants"]} == {
        name: sum(a["variant"]["name"] == name for a in given) for name in ("blue", "green")
    }
    assert sum(v["metrics"]["revenue"]["sum"] for v in result["variants"]) == 50


def test_without_tokens_the_first_start_makes_one(tmp_path: Path) -> None:
    """It is printed once, kept with mode 0600, and works; a second start says nothing of it."""
    environment = {"TOKEN_CLIENT_ID_MAP": ""}
    with running(tmp_path / "data", environment=environment) as server:
        path = tmp_path / "data" / "token"
        token = path.read_text().strip()
        answers = [httpx.get(f"{server.url}/experiments", headers={"Authorization": f"Bearer {t}"}).status_code
                   for t in (token, token + "x")]  # fmt: skip

    with running(tmp_path / "data", environment=environment):
        assert path.read_text().strip() == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert answers == [200, 401]


def test_a_stopped_server_exits_cleanly_and_keeps_everything(tmp_path: Path) -> None:
    """SIGTERM: exit code 0; what was acknowledged is there after the next start."""
    with running(tmp_path / "data") as server:
        with server.client() as client:
            client.post("/experiments", json={"name": "Kept", "variants": [{"name": "a"}, {"name": "b"}]})
            before = client.get("/experiments/kept/assignment/user").json()
        code = server.stop()

    with running(tmp_path / "data") as server, server.client() as client:
        after = client.get("/experiments/kept/assignment/user").json()
        users = client.get("/experiments/kept/results").json()["summary"]["total_users"]

    assert code == 0
    assert (after["variant"], after["assigned_at"], after["is_new"]) == (
        before["variant"],
        before["assigned_at"],
        False,
    )
    assert users == 1
