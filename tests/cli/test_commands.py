"""The command line: one line and an exit code when something is wrong, and nothing half done."""

import json
import socket
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest
from tests.cli.commands import upshot
from tests.servers import TOKEN, running

from upshot.cli import server
from upshot.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["results"], "EXPERIMENT"),
        (["import", "--experiment", "x"], "--assignments"),
        (["import", "--experiment", "x", "--events", "none.csv"], "none.csv"),
        (["unheard-of"], "unheard-of"),
    ],
)
def test_a_fault_is_one_line_and_an_exit_code(tmp_path: Path, arguments: list[str], named: str) -> None:
    """It names what is wrong."""
    done = upshot(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """A second server on the same port or the same folder does not start."""
    with running(tmp_path / "data") as started:
        port = started.url.rpartition(":")[2]
        same_port = upshot("serve", "--port", port, "--data-dir", "other", cwd=tmp_path)
        same_folder = upshot("serve", "--port", "0", "--data-dir", str(tmp_path / "data"), cwd=tmp_path)

    assert (same_port.returncode, same_folder.returncode) == (2, 2)
    assert port in same_port.stderr
    assert "another Upshot runs" in same_folder.stderr


def test_config_masks_what_nobody_may_see(tmp_path: Path) -> None:
    """Tokens are counted, passwords starred."""
    done = upshot(
        "config",
        cwd=tmp_path,
        VALID_TOKENS="secret-token-1,secret-token-2",
        DATABASE_URL="postgresql://app:secret@host/db",
    )

    assert done.returncode == 0
    assert "secret" not in done.stdout
    assert "UPSHOT_VALID_TOKENS=2 configured" in done.stdout
    assert "UPSHOT_DATABASE_URL=postgresql://app:***@host/db" in done.stdout


def test_doctor_checks_and_migrate_migrates(tmp_path: Path) -> None:
    """Both work on an empty folder, without a server."""
    migrated = upshot("migrate", cwd=tmp_path)
    examined = upshot("doctor", cwd=tmp_path)

    assert "schema 0010" in migrated.stdout
    assert examined.returncode == 0, examined.stdout
    assert all(line.startswith("ok") for line in examined.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson"])
def test_files_of_every_kind_are_imported_once(tmp_path: Path, kind: str) -> None:
    """Ids stay text, other columns become context and properties, times without an offset are UTC; no server is needed."""
    with running(tmp_path / "data") as started, started.client() as client:
        client.post("/experiments", json={"name": "Elsewhere", "primary_metric": "buy",
                                          "variants": [{"name": "a"}, {"name": "b"}]})  # fmt: skip
    assignments = [(f"00{n}", "ab"[n % 2], "2026-01-01 00:00:00", "US" if n else "DE") for n in range(10)]
    events = [(f"00{n}", "buy", "2026-01-02T00:00:00Z", 12.5, "USD", "1", 2 + n) for n in range(4)]
    named = "user_id, event_type, timestamp"
    _write(tmp_path / f"assignments.{kind}", "user_id, variant, assigned_at, country", assignments, "context")
    _write(tmp_path / f"events.{kind}", f"{named}, price, currency, session_id, sequence", events, "properties")
    arguments = ["--data-dir", "data", "--token", TOKEN]
    call = ["import", "--experiment", "elsewhere", "--assignments", f"assignments.{kind}", "--events", f"events.{kind}"]
    tokens = {"TOKEN_CLIENT_ID_MAP": f"{TOKEN}:first"}

    first = upshot(*call, *arguments, cwd=tmp_path, **tokens)
    second = upshot(*call, *arguments, cwd=tmp_path, **tokens)
    result = json.loads(upshot("results", "elsewhere", "--json", *arguments, cwd=tmp_path, **tokens).stdout)

    assert first.returncode == 0, first.stderr
    assert "assignments: 10 new, 0 known already, 0 refused" in first.stdout
    assert "events: 4 new, 0 known already, 0 refused" in first.stdout
    assert "assignments: 0 new, 10 known already" in second.stdout
    assert "events: 0 new, 4 known already" in second.stdout
    assert sum(v["metrics"]["revenue"]["sum"] for v in result["variants"]) == 50
    assert result["experiment"]["started_at"] == "2026-01-01T00:00:00Z"
    lost = {name: (part["lost"], part["sent"]) for name, part in result["health"]["event_loss"]["variants"].items()}
    assert lost == {"a": (4, 6), "b": (6, 8)}


@pytest.mark.slow
def test_refused_rows_are_counted_and_the_exit_code_tells(tmp_path: Path) -> None:
    """The good rows are stored, the first bad ones are shown with their place."""
    with running(tmp_path / "data") as started, started.client() as client:
        client.post("/experiments", json={"name": "Elsewhere", "variants": [{"name": "a"}, {"name": "b"}]})
        (tmp_path / "rows.csv").write_text(
            "user_id,variant,assigned_at\nu1,a,2026-01-01T00:00:00Z\nu2,c,2026-01-01T00:00:00Z\n,a,2026-01-01T00:00:00Z\n"
        )
        arguments = ["--experiment", "elsewhere", "--assignments", "rows.csv", "--url", started.url, "--token", TOKEN]
        done = upshot("import", *arguments, cwd=tmp_path)
        unknown = upshot("results", "nothing", "--url", started.url, "--token", TOKEN, cwd=tmp_path)
        stranger = upshot("results", "elsewhere", "--url", started.url, "--token", "wrong-token", cwd=tmp_path)

    assert done.returncode == 1
    assert "assignments: 1 new, 0 known already, 2 refused" in done.stdout
    assert "row 2: /variant names no variant of this experiment" in done.stderr
    assert (unknown.returncode, stranger.returncode) == (1, 1)
    assert unknown.stderr == "upshot: There is no such experiment.\n"


def _write(path: Path, columns: str, rows: Sequence[tuple[object, ...]], rest: str) -> None:
    """The rows as a file of the kind that the path's name says."""
    names = columns.split(", ")
    if path.suffix == ".ndjson":
        lines = []
        for row in rows:
            fields = dict(zip(names, row, strict=True))
            others = {name: fields.pop(name) for name in names[3:] if name not in {"session_id", "sequence"}}
            fields[names[2]] = str(fields[names[2]]).replace(" 00:00:00", "T00:00:00Z")
            lines.append(json.dumps(fields | {rest: others}))
        path.write_text("\n".join(lines) + "\n")
        return
    marks = ", ".join("(" + ", ".join(repr(value) for value in row) + ")" for row in rows)
    kind = "(FORMAT parquet)" if path.suffix == ".parquet" else "(HEADER)"
    duckdb.connect().execute(f"COPY (SELECT * FROM (VALUES {marks}) t({columns})) TO '{path}' {kind}")  # noqa: S608


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Accepted connections send at once: Nagle's algorithm would hold the body of every answer back for 40 ms."""
    with (
        server.listening(Settings(host="127.0.0.1", port=0)) as (listener, _),
        socket.create_connection(listener.getsockname()),
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
