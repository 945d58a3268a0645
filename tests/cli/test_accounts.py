"""`upshot user` and `upshot key`: the first admin, people and keys, with a server and without one; keys and secrets of the
settings."""

import re
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.cli.commands import upshot
from tests.http.world import PASSWORD, bearer
from tests.servers import TOKEN, running

pytestmark = pytest.mark.slow


def ran(done: subprocess.CompletedProcess[str]) -> str:
    """The output of a command that went well."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("served", [True, False])
def test_people_are_made_listed_changed_and_removed(tmp_path: Path, *, served: bool) -> None:
    """By address; the link that is printed is good for a password."""
    told: list[str] = []

    def loop() -> None:
        made = ran(upshot("user", "create", "Ann@example.com", "--name", "Ann", *told, cwd=tmp_path))
        assert made.startswith("ann@example.com is admin; the link is good once, for a day:\n")
        ran(upshot("user", "create", "bob@example.com", "--role", "viewer", *told, cwd=tmp_path))
        assert (
            ran(upshot("user", "list", *told, cwd=tmp_path))
            == "ann@example.com\tadmin\tinvited\tAnn\nbob@example.com\tviewer\tinvited\n"
        )
        again = ran(upshot("user", "invite", "bob@example.com", *told, cwd=tmp_path))
        assert "/setup#" in again
        ran(upshot("user", "change", "bob@example.com", "--role", "editor", "--disable", *told, cwd=tmp_path))
        assert "bob@example.com\teditor\tdisabled" in ran(upshot("user", "list", *told, cwd=tmp_path))
        none = upshot("user", "reset-factor", "bob@example.com", *told, cwd=tmp_path)
        assert (none.returncode, none.stderr) == (1, "upshot: There is no such person, or no second factor.\n")
        assert ran(upshot("user", "remove", "bob@example.com", *told, cwd=tmp_path)) == "bob@example.com is removed\n"
        last = upshot("user", "remove", "ann@example.com", *told, cwd=tmp_path)
        assert (last.returncode, last.stderr) == (
            1,
            "upshot: The client needs at least one admin who is not disabled.\n",
        )
        nobody = upshot("user", "invite", "nobody@example.com", *told, cwd=tmp_path)
        assert nobody.returncode == 2

    if served:
        with running(tmp_path / "data") as started:
            told += ["--url", started.url, "--token", TOKEN]
            loop()
    else:
        told += ["--data-dir", "data"]
        loop()


def test_keys_are_made_rotated_and_revoked(tmp_path: Path) -> None:
    """What is printed is the key itself, so that a script can take it."""
    with running(tmp_path / "data") as started:
        told = ["--url", started.url, "--token", TOKEN]
        assert ran(upshot("key", "list", *told, cwd=tmp_path)) == "there are none\n"
        key = ran(upshot("key", "create", "shop", "--scope", "events:write", *told, cwd=tmp_path)).strip()
        event = {"user_id": "visitor", "event_type": "visit"}
        assert httpx.post(f"{started.url}/events", json=event, headers=bearer(key)).status_code == 201
        new = ran(upshot("key", "rotate", key[4:14], "--hours", "1", *told, cwd=tmp_path)).strip()
        listed = ran(upshot("key", "list", *told, cwd=tmp_path)).splitlines()
        assert {line.split("\t")[0] for line in listed} == {key[4:14], new[4:14]}
        assert {line.split("\t")[2] for line in listed} == {"active"}
        assert ran(upshot("key", "revoke", new[4:14], *told, cwd=tmp_path)) == f"{new[4:14]} is revoked\n"
        refused = upshot("key", "create", "shop", "--scope", "everything", *told, cwd=tmp_path)
        assert refused.returncode == 2


def test_another_clients_people_are_made_where_nobody_serves(tmp_path: Path) -> None:
    """Whoever runs the machine may speak for every client; a running server asks for a token of that client."""
    ran(upshot("user", "create", "ann@acme.example", "--client", "acme", "--data-dir", "data", cwd=tmp_path))

    assert ran(upshot("user", "list", "--client", "acme", "--data-dir", "data", cwd=tmp_path)).startswith(
        "ann@acme.example"
    )
    assert ran(upshot("user", "list", "--data-dir", "data", cwd=tmp_path)) == "there are none\n"
    with running(tmp_path / "data"):
        refused = upshot(
            "user", "list", "--client", "acme", "--data-dir", "data", cwd=tmp_path, TOKEN_CLIENT_ID_MAP=f"{TOKEN}:first"
        )
    assert refused.returncode == 2
    assert "no token of this client" in refused.stderr


def test_the_first_start_prints_a_link_that_makes_the_first_admin(tmp_path: Path) -> None:
    """Once; the page behind it is there, and after the first account no start prints another."""
    with running(tmp_path / "data") as started:
        printed = started.read_on(2)
        secret = re.search(r"/setup#(\w+)", printed)
        assert secret, printed
        page = httpx.get(f"{started.url}/setup")
        body = {"secret": secret[1], "password": PASSWORD, "email": "ann@example.com"}
        joined = httpx.post(f"{started.url}/auth/invitation", json=body)
        assert (page.status_code, joined.status_code) == (200, 201)
        assert "unsafe" not in page.headers["content-security-policy"]
        signed = httpx.post(f"{started.url}/auth/token", json={"email": "ann@example.com", "password": PASSWORD})
        assert signed.status_code == 200
    assert "disabled\tAnn" not in ran(upshot("user", "list", "--data-dir", "data", cwd=tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("JWT_SECRET_KEY", "short", "JWT_SECRET_KEY: must have at least 32 random bytes"),
        ("JWT_SECRET_KEY", "your-secret-key-here" * 2, "JWT_SECRET_KEY: is easily guessed"),
        ("JWT_SECRET_KEY", "a" * 64, "JWT_SECRET_KEY: is easily guessed"),
        ("JWT_ALGORITHM", "none", "JWT_ALGORITHM: must be one of"),
        ("JWT_ALGORITHM", "RS256", "JWT_SECRET_KEY: RS256 needs a private key"),
        ("JWT_EXPIRATION_MINUTES", "0", "JWT_EXPIRATION_MINUTES"),
        ("JWT_EXPIRATION_MINUTES", "100000", "JWT_EXPIRATION_MINUTES"),
        ("JWT_SECRET_KEY_FILE", "/nowhere/at/all", "JWT_SECRET_KEY_FILE: cannot be read"),
        ("UPSHOT_PUBLIC_URL", "ftp://somewhere/", "UPSHOT_PUBLIC_URL"),
        (
            "MIGRATION_DATABASE_URL",
            "sqlite:///owner.db",
            "MIGRATION_DATABASE_URL: roles of their own are for PostgreSQL only",
        ),
    ],
)
def test_settings_of_identity_that_cannot_be_used_end_the_start(
    tmp_path: Path, name: str, text: str, shown: str
) -> None:
    """One line that names the setting and repeats nothing of it; the exit code is 2."""
    done = upshot("serve", "--port", "0", "--data-dir", "data", cwd=tmp_path, **{name: text})

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert shown in done.stderr
    assert len(text) < 10 or text not in done.stderr or name.endswith("_FILE")


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    """And none is printed by `upshot config`."""
    secret = "kR8vX2qLw0ZtN5yBfJ3hM7pD1sGcV9aEuT4iO6xKbQzYnWe"  # noqa: S105
    (tmp_path / "jwt").write_text(secret + "\n", encoding="utf-8")

    shown = ran(upshot("config", cwd=tmp_path, JWT_SECRET_KEY_FILE=str(tmp_path / "jwt")))

    assert "UPSHOT_JWT_SECRET_KEY=configured" in shown
    assert secret not in shown
