"""`upshot plan`: in a process of its own for what needs one, and by Click's runner for how it reads and writes."""

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.cli.commands import upshot
from tests.servers import TOKEN, RunningServer, running

from upshot.cli import commands

PAGE = (Path(__file__).parents[2] / "docs" / "planner.md").read_text(encoding="utf-8")
GIVEN = ("--baseline", "0.05", "--per-day", "2000")


def printed(*arguments: str) -> str:
    """What the command prints about a given baseline."""
    done = CliRunner().invoke(commands, ["plan", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def document(*arguments: str) -> dict[str, Any]:
    """The same as JSON."""
    return dict(json.loads(printed(*arguments, "--json")))


def test_a_given_baseline_needs_no_server_and_no_data(tmp_path: Path) -> None:
    """The answer of the page, word for word, and a table; no folder is made."""
    [(call, answer)] = re.findall(r"```text\n\$ upshot (plan .*?)\n(.*?)```", PAGE, re.DOTALL)

    done = upshot(*call.split(), cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(answer)
    assert re.search(r"\n +35 +70,000 +\+\S+% +\+\S+ +\d\d\.\d% *\n", done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_an_effect_users_and_days_are_asked_for() -> None:
    """Each gives the others; both give a power; a decrease is one."""
    needed = printed(*GIVEN, "--effect", "10%")
    shown = printed(*GIVEN, "--days", "14", "--variants", "3")
    seen = printed(
        "--baseline", "12", "--sd", "40", "--users", "20000", "--effect", "-0.1", "--stopping", "always_valid"
    )

    assert "65,604 users (32,802 + 32,802) in 35 days show a change of +10% (5% → 5.5%)" in " ".join(needed.split())
    assert "group sequential, 33 looks, at 5.0% more users than one look; alpha 0.05" in needed
    assert "28,000 users (9,333 + 9,333 + 9,334) in 14 days show a change of" in " ".join(shown.split())
    assert "alpha 0.05, 0.025 per comparison" in " ".join(shown.split())
    assert "power" not in shown.splitlines()[-15]
    assert (
        "show a change of -18.3% (12 → 9.807) with 80% power. One of -10% (12 → 10.8) they show with 18% power"
        in " ".join(seen.split())
    )
    assert "it is not known how many users come a day" in seen


def test_json_is_the_answer_of_the_server() -> None:
    """The same fields; percentages and shares are read."""
    found = document(
        *GIVEN, "--effect", "0.1", "--variants", "50:25:25", "--alpha", "0.1", "--power", "0.9", "--stopping", "fixed"
    )

    assert found["effect"]["relative"] == document(*GIVEN, "--effect", "10%")["effect"]["relative"] == 0.1
    assert [variant["share"] for variant in found["variants"]] == [0.5, 0.25, 0.25]
    assert (found["alpha"], found["required_power"], found["looks"]) == (0.1, 0.9, 1)
    assert found["plan"]["planned_users"] == found["users"]
    absolute = document("--baseline", "3", "--sd", "2", "--kind", "mean", "--absolute-effect", "0.3")
    assert (absolute["baseline"]["kind"], absolute["effect"]["relative"]) == ("mean", pytest.approx(0.1))


def test_what_cannot_be_planned_says_why() -> None:
    """In words, without a table."""
    assert "There is no plan: a share stays between 0 and 1." in printed("--baseline", "0.9", "--effect", "20%")
    assert "too few users" in printed("--baseline", "0.5", "--users", "2")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--baseline"),
        (["--baseline", "0.05"], "--effect"),
        (["--baseline", "0.05", "--entry", "visit"], "only one"),
        (["--baseline", "5", "--effect", "5%"], "--baseline: a share"),
        (["--baseline", "0.05", "--effect", "much"], "--effect"),
        (["--baseline", "0.05", "--effect", "0"], "--effect: must not be 0"),
        (["--baseline", "0.05", "--effect", "nan"], "--effect"),
        (["--baseline", "0.05", "--effect", "5%", "--variants", "1"], "--variants"),
        (["--baseline", "0.05", "--effect", "5%", "--variants", "1:0"], "--variants"),
        (["--baseline", "0.05", "--effect", "5%", "--power", "1.5"], "--power"),
        (["--baseline", "0.05", "--users", "10", "--days", "10"], "--days"),
        (["--baseline", "0.05", "--users", "10", "--metric", "buy"], "--metric"),
        (["--entry", "visit", "--sd", "3", "--effect", "5%"], "--sd"),
        (["--entry", "visit", "--effect", "5%", "--metric", "{"], "--metric"),
        (["--entry", "visit", "--effect", "5%"], "--metric: which"),
        (["--experiment", "none", "--effect", "5%"], "--experiment: names no experiment"),
    ],
)
def test_a_wrong_call_names_the_option(tmp_path: Path, arguments: list[str], named: str) -> None:
    """Whether the command or the server finds it."""
    call = [*arguments, "--data-dir", str(tmp_path)]

    error = CliRunner().invoke(commands, ["plan", *call], standalone_mode=False).exception

    assert isinstance(error, click.ClickException)
    assert named in error.format_message()


def test_a_wrong_call_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    """As of every command: 2 for what the caller can correct."""
    done = upshot("plan", "--experiment", "none", "--effect", "5%", cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", "upshot: --experiment: names no experiment\n")


@pytest.mark.slow
def test_a_baseline_is_measured_by_a_server_or_in_the_stores(tmp_path: Path) -> None:
    """The same plan while the server runs and after it; an entry and an experiment; a definition as JSON."""
    arguments = ["--data-dir", "data", "--token", TOKEN]
    entry = ["plan", "--entry", "visit", "--metric", '{"key": "b", "event_type": "buy"}', "--effect", "20%", *arguments]
    tokens = {"TOKEN_CLIENT_ID_MAP": f"{TOKEN}:first"}

    with running(tmp_path / "data") as started:
        _fill(started)
        there = upshot(*entry, cwd=tmp_path, **tokens)
        inside = upshot("plan", "--experiment", "checkout", "--users", "5000", *arguments, cwd=tmp_path, **tokens)
    alone = upshot(*entry, cwd=tmp_path, **tokens)

    assert there.returncode == 0, there.stderr
    assert "b 50%, " in there.stdout
    assert "measured on 40 users" in there.stdout
    assert "5,000 users (2,500 + 2,500)" in inside.stdout
    assert alone.stdout.splitlines()[0] == there.stdout.splitlines()[0]


def _fill(server: RunningServer) -> None:
    with server.client() as client:
        body = {"name": "Checkout", "primary_metric": "buy", "variants": [{"name": "a"}, {"name": "b"}]}
        assert client.post("/experiments", json=body).is_success
        assert client.post("/events", json=[{"user_id": f"u{n}", "type": "visit"} for n in range(40)]).is_success
        for number in range(20):
            assert client.get(f"/experiments/checkout/assignment/u{number}").is_success
        assert client.post("/events", json=[{"user_id": f"u{n}", "type": "buy"} for n in range(20)]).is_success
