"""What is wrong with the configuration: one line that names the setting, an exit code, soon, and no secret in it."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.cli.commands import upshot

from upshot.settings import Settings

SECONDS = 5
TRIES = 4
CANARY = "s3cret"
STRONG = {"JWT_SECRET_KEY": "k7Qz-9fWm2Lx_5tVb8Rn0Ys3Hd6Gj1Pc4Ae"}
PROVIDER = {"UPSHOT_PUBLIC_URL": "https://ab.example.com", "UPSHOT_OIDC_ISSUER": "https://id.example.com",
            "UPSHOT_OIDC_CLIENT_ID": "upshot", "UPSHOT_OIDC_ROLES": "staff:viewer"}  # fmt: skip

FAULTS: list[tuple[str, dict[str, str]]] = [
    # Names and simple values.
    ("UPSHOT_PROT", {"UPSHOT_PROT": CANARY}),
    ("UPSHOT_DEBUG", {"UPSHOT_DEBUG": "true"}),
    ("UPSHOT_PROT_FILE", {"UPSHOT_PROT_FILE": "/etc/hostname"}),
    ("UPSHOT_PORT", {"UPSHOT_PORT": CANARY}),
    ("UPSHOT_PORT", {"UPSHOT_PORT": "70000"}),
    ("UPSHOT_LOG_LEVEL", {"UPSHOT_LOG_LEVEL": CANARY}),
    ("UPSHOT_LOG_FORMAT", {"UPSHOT_LOG_FORMAT": CANARY}),
    ("UPSHOT_SPOOL_BYTES", {"UPSHOT_SPOOL_BYTES": "-1"}),
    ("UPSHOT_RETENTION_DAYS", {"UPSHOT_RETENTION_DAYS": "0"}),
    ("UPSHOT_SCHEDULER", {"UPSHOT_SCHEDULER": CANARY}),
    ("UPSHOT_CONCURRENT_REQUESTS", {"UPSHOT_CONCURRENT_REQUESTS": "0"}),
    ("UPSHOT_LIMIT_EVENTS", {"UPSHOT_LIMIT_EVENTS": CANARY}),
    ("UPSHOT_TRUSTED_PROXIES", {"UPSHOT_TRUSTED_PROXIES": CANARY}),
    ("UPSHOT_PUBLIC_URL", {"UPSHOT_PUBLIC_URL": f"https://ab.example.com/{CANARY}"}),
    # Where things are.
    ("DATABASE_URL", {"DATABASE_URL": f"oracle://u:{CANARY}@host/db"}),
    ("DATABASE_URL", {"DATABASE_URL": f"postgresql://u:{CANARY}@host:port/db"}),
    ("DATABASE_URL", {"DATABASE_URL": f"sqlite:////proc/none/{CANARY}.db"}),
    ("READ_DATABASE_URL", {"READ_DATABASE_URL": f"oracle://u:{CANARY}@host/db"}),
    ("MIGRATION_DATABASE_URL", {"MIGRATION_DATABASE_URL": f"mysql://u:{CANARY}@host/db"}),
    ("EVENTS_URL", {"UPSHOT_EVENTS_URL": f"kafka://u:{CANARY}@host"}),
    ("EVENTS_URL", {"UPSHOT_EVENTS_URL": f"clickhouse://u:{CANARY}@host:port/db"}),
    ("EVENTS_URL", {"UPSHOT_EVENTS_URL": f"clickhouse://u:{CANARY}@host/db?unheard=of"}),
    ("QUEUE_URL", {"UPSHOT_QUEUE_URL": f"carrier-pigeon://u:{CANARY}@host"}),
    ("CACHE_URL", {"UPSHOT_CACHE_URL": f"unheard-of://u:{CANARY}@host"}),
    ("CACHE_URL", {"CACHE_URL": f"redis+sentinel://u:{CANARY}@one,two"}),
    ("UPSHOT_LIMITS_URL", {"UPSHOT_LIMITS_URL": f"memcached://u:{CANARY}@host"}),
    ("UPSHOT_EGRESS_PROXY", {"UPSHOT_EGRESS_PROXY": f"socks5://u:{CANARY}@host:1080"}),
    ("/proc/none", {"UPSHOT_DATA_DIR": "/proc/none"}),
    ("203.0.113.7", {"UPSHOT_HOST": "203.0.113.7"}),
    # Who may come in.
    ("VALID_TOKENS", {"VALID_TOKENS": CANARY}),
    ("TOKEN_CLIENT_ID_MAP", {"TOKEN_CLIENT_ID_MAP": f"{{{CANARY}"}),
    ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": CANARY}),
    ("JWT_SECRET_KEY", {"JWT_SECRET_KEY": CANARY * 6}),
    ("JWT_SECRET_KEY_FILE", {"JWT_SECRET_KEY_FILE": f"/none/{CANARY}"}),
    ("JWT_SECRET_KEY", STRONG | {"JWT_ALGORITHM": "RS256"}),
    ("JWT_SECRET_KEY", {"JWT_ALGORITHM": "ES256"}),
    ("JWT_ALGORITHM", STRONG | {"JWT_ALGORITHM": "none"}),
    ("JWT_EXPIRATION_MINUTES", {"JWT_EXPIRATION_MINUTES": "1440"}),
    ("UPSHOT_PUBLIC_URL", {name: text for name, text in PROVIDER.items() if name != "UPSHOT_PUBLIC_URL"}),
    ("UPSHOT_OIDC_CLIENT_ID", PROVIDER | {"UPSHOT_OIDC_CLIENT_ID": ""}),
    ("UPSHOT_OIDC_ISSUER", PROVIDER | {"UPSHOT_OIDC_ISSUER": f"http://id.example.com/?{CANARY}"}),
    ("UPSHOT_OIDC_ROLES", PROVIDER | {"UPSHOT_OIDC_ROLES": f"staff:{CANARY}"}),
    ("UPSHOT_OIDC_SCOPES", PROVIDER | {"UPSHOT_OIDC_SCOPES": "email"}),
]  # fmt: skip


def complaints(code: int, said: str, took: float, named: str) -> Iterator[str]:
    """What is wrong with how a fault was told."""
    if code != 2:
        yield f"exit code {code}"
    if named not in said:
        yield f"{named} is not named"
    if len(said.strip().splitlines()) != 1:
        yield "not one line"
    if CANARY in said or any(secret in said for secret in STRONG.values()):
        yield "a secret is shown"
    if took > SECONDS:
        yield f"after {took:.1f} s"


@pytest.mark.parametrize(("named", "environment"), FAULTS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(FAULTS)])
def test_a_server_does_not_start_and_says_which_setting_is_wrong(
    tmp_path: Path, named: str, environment: dict[str, str]
) -> None:
    """Whatever the setting, and whatever its value holds; in time at best of a few starts, where other work delayed the first."""
    for _ in range(TRIES):
        started = time.monotonic()
        done = upshot("serve", cwd=tmp_path, **{"UPSHOT_PORT": "0"} | environment)
        took = time.monotonic() - started
        if took <= SECONDS:
            break

    assert list(complaints(done.returncode, done.stderr + done.stdout, took, named)) == []


def test_the_faults_are_those_of_these_settings(tmp_path: Path) -> None:
    """What they are built upon is sound by itself."""
    for environment in (STRONG, PROVIDER, STRONG | PROVIDER):
        assert upshot("config", cwd=tmp_path, **environment).returncode == 0


@pytest.mark.parametrize(
    ("code", "found"), [(1, "exit code 1"), (2, "a secret is shown"), (2, "not one line"), (2, "JWT_X is not named")]
)
def test_a_careless_program_is_found(code: int, found: str) -> None:
    """One that prints what the library says of a wrong value."""
    with pytest.raises(ValidationError) as caught:
        type("Careless", (Settings,), {"model_config": Settings.model_config | {"hide_input_in_errors": False}})(
            log_level=CANARY
        )

    said = subprocess.CompletedProcess([], code, "", str(caught.value))

    assert found in list(complaints(said.returncode, said.stderr, 0, "JWT_X"))
    assert "after 6.0 s" in list(complaints(2, "", 6, ""))
