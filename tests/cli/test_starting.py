"""What a start loads, and what it leaves for later."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from upshot.cli import COMMANDS, commands

LATER = ("scipy.special", "alembic", "zxcvbn", "psycopg", "redis", "aiokafka")
OF_A_SERVER = ("upshot.http.app", "fastapi", "sqlalchemy", "duckdb", "numpy", "uvicorn")
SHOW = "import gc, sys\n{}\nprint(gc.isenabled(), gc.get_freeze_count() > 0, *sys.modules)"
RUN = "from upshot import __main__ as start\nstart.cli.commands({}, standalone_mode=False, obj=start._imported)"
ASKING = """
sys.argv = ["upshot", "results", "one", "--url", "http://127.0.0.1:9", "--token", "none"]
from upshot.__main__ import main
try:
    main()
except SystemExit as over:
    assert over.code == 1
"""


def started(statement: str, said: str = "") -> tuple[str, str, set[str]]:
    """Of a new interpreter after a statement: whether its collector works, whether it leaves something alone, what is loaded.
    `said`: what it prints as an error."""
    shown = subprocess.run(
        [sys.executable, "-c", SHOW.format(statement)], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stderr == said
    collects, frozen, *loaded = shown.stdout.splitlines()[-1].split()
    return collects, frozen, set(loaded)


@pytest.fixture(scope="module")
def command() -> tuple[str, str, set[str]]:
    """After the command that serves has been loaded."""
    return started(RUN.format(["serve", "--help"]))


@pytest.mark.parametrize("module", LATER)
def test_a_start_does_without(command: tuple[str, str, set[str]], module: str) -> None:
    """What only some need is loaded when they do."""
    loaded = command[2]

    assert "upshot.http.app" in loaded
    assert module not in loaded


def test_the_collector_leaves_alone_what_was_imported(command: tuple[str, str, set[str]]) -> None:
    """It works, and a full collection does not look through the program."""
    assert command[:2] == ("True", "True")


def test_who_asks_a_server_loads_none_of_it() -> None:
    """Nor anything that only a server needs; not even when it cannot be reached."""
    loaded = started(ASKING, "upshot: the server cannot be reached: All connection attempts failed\n")[2]

    assert "upshot.cli.reading" in loaded
    assert loaded.isdisjoint(OF_A_SERVER)


def test_help_loads_no_command() -> None:
    """It says what all of them do."""
    loaded = started(RUN.format(["--help"]))[2]

    assert not any(name.startswith("upshot.cli.") for name in loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    """Under its name; one that is not is an error."""
    command = commands.get_command(click.Context(commands), name)

    assert command is not None
    assert command.name == name


def test_what_is_no_command_is_refused() -> None:
    """With its name."""
    refused = CliRunner().invoke(commands, ["nothing"])

    assert refused.exit_code == 2
    assert "No such command 'nothing'" in refused.output


def test_an_application_that_imports_us_keeps_its_collector_as_it_is() -> None:
    """The SDK is a guest there."""
    assert started("import upshot.sdk")[:2] == ("True", "False")
