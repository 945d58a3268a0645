"""Whose word about a caller's address is believed: a real server, asked from loopback as a proxy would."""

from pathlib import Path

import httpx
import pytest
from tests.servers import RunningServer

from upshot.errors import ConfigurationError
from upshot.settings import Settings, load

TRUSTED, NOBODY = "127.0.0.1, 10.0.0.0/8", ""
PEOPLE = [f"203.0.113.{n}" for n in range(4)]
GOOD, REFUSED = [401] * 4, [401, 401, 429, 429]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (TRUSTED, PEOPLE, GOOD),
        (TRUSTED, [f"{address}, 10.1.2.3" for address in PEOPLE], GOOD),  # through two proxies
        (TRUSTED, [f"{address}, 198.51.100.7" for address in PEOPLE], REFUSED),  # the caller wrote what stands before
        ("10.0.0.0/8", PEOPLE, REFUSED),
        (NOBODY, PEOPLE, REFUSED),
    ],
)
def test_attempts_are_counted_per_address_that_a_trusted_proxy_says(
    tmp_path: Path, proxies: str, forwarded: list[str], expected: list[int]
) -> None:
    """Nobody else gets a new address, and with it new attempts, by writing one."""
    settings = {"UPSHOT_TRUSTED_PROXIES": proxies, "UPSHOT_LIMIT_LOGIN_ADDRESS": "2/h"}
    server = RunningServer(tmp_path, environment=settings)
    try:
        with httpx.Client(base_url=server.url, timeout=30) as web:
            answers = [
                web.post(
                    "/auth/token",
                    json={"email": f"nobody-{n}@example.com", "password": "some unrelated words"},
                    headers={"X-Forwarded-For": text},
                ).status_code
                for n, text in enumerate(forwarded)
            ]
    finally:
        server.stop()

    assert answers == expected


@pytest.mark.parametrize("text", ["proxy.internal", "10.0.0.1/8", "10.0.0.0/33", "127.0.0.1,", "*", "1.2.3.4:80"])
def test_what_is_no_address_is_refused_at_start(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A name would be looked up by nobody, and everybody is nobody's proxy."""
    monkeypatch.setenv("UPSHOT_TRUSTED_PROXIES", text)

    with pytest.raises(ConfigurationError, match=r"UPSHOT_TRUSTED_PROXIES: .*every entry is an address"):
        load()
    assert Settings(trusted_proxies="::1,fd00::/8").trusted_proxies
