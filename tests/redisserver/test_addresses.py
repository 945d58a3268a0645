"""Where a Redis is: what a URL says, and what it must not say again."""

from typing import Any

import pytest

from upshot.cache import connect
from upshot.environment import without_password
from upshot.errors import ConfigurationError
from upshot.redisserver.addresses import Address, address_of
from upshot.settings import load

SECRET = "s3cret"  # noqa: S105 - of a test
UNUSABLE = [
    "",
    SECRET,
    f"memcached://{SECRET}@host",
    "redis://",
    "redis:///0",
    f"redis://:{SECRET}@",
    f"redis://:{SECRET}@host:99999/0",
    f"redis://:{SECRET}@host:port/0",
    f"redis://:{SECRET}@host/zero",
    f"redis://:{SECRET}@host/0?db=1",
    f"redis://:{SECRET}@host#0",
    f"redis://:{SECRET}@[host/0",
    f"redis://:{SECRET}@one,two/0",
    f"redis+sentinel://:{SECRET}@one,two",
    f"redis+sentinel://:{SECRET}@one,two/",
    f"redis+sentinel://:{SECRET}@one,/service",
    f"redis+sentinel://:{SECRET}@one,two/service/zero",
    f"redis+sentinel://:{SECRET}@one:0,two/service",
    f"redis+sentinel://:{SECRET}@one/two,three/service",
    f"redis+cluster://:{SECRET}@one,two/1",
    f"redis+cluster://:{SECRET}@one,two:port",
    f"redis+cluster://:{SECRET}@",
    f"redis+other://:{SECRET}@host",
    f"rediss+other://:{SECRET}@host",
]


PLAIN = Address(kind="", tls=False, user=None, password=None, nodes=[("host", 6379)], service="", database=0)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://host", {}),
        ("redis://[::1]:1", {"nodes": [("::1", 1)]}),
        (
            "rediss://u:p%40%3A%2F%2C@host:1/12",
            {"tls": True, "user": "u", "password": "p@:/,", "nodes": [("host", 1)], "database": 12},
        ),
        ("rediss+sentinel://one/s", {"kind": "sentinel", "tls": True, "nodes": [("one", 26379)], "service": "s"}),
        (
            "redis+sentinel://:p@one,two:1,[::1]:2/my.service/3",
            {"kind": "sentinel", "password": "p", "nodes": [("one", 26379), ("two", 1), ("::1", 2)], "service": "my.service",
             "database": 3},
        ),
        ("redis+cluster://u@one,two:1", {"kind": "cluster", "user": "u", "nodes": [("one", 6379), ("two", 1)]}),
        ("rediss+cluster://one/", {"kind": "cluster", "tls": True, "nodes": [("one", 6379)]}),
    ],
)  # fmt: skip
def test_a_url_says_where(url: str, said: dict[str, Any]) -> None:
    """Kind, encryption, account, hosts with their ports, service and database."""
    assert address_of(url) == PLAIN._replace(**said)


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_cache_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    """The message names the setting, and no part of a password."""
    with pytest.raises(ConfigurationError, match=r"^CACHE_URL: ") as refused:
        connect(url)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "scheme", ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"]
)
@pytest.mark.parametrize("place", ["one:1", "one:1,two:2", "one:1,two:2/service/0"])
def test_no_password_is_shown(scheme: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`upshot config` prints the hosts, however many there are."""
    monkeypatch.setenv("CACHE_URL", f"{scheme}://user:{SECRET}@{place}")

    assert load().masked()["cache_url"] == f"{scheme}://user:***@{place}"
    assert without_password(f"{scheme}://:{SECRET}%40x@{place}") == f"{scheme}://:***@{place}"
    assert without_password(f"{scheme}://{place}") == f"{scheme}://{place}"
