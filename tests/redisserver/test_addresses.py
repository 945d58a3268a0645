"""Where a Redis is: what a URL says, and what it must not say again."""

import pytest

from upshot.cache import connect
from upshot.environment import without_password
from upshot.errors import ConfigurationError
from upshot.redisserver.addresses import Address, address_of
from upshot.settings import load

SECRET = "s3cret"
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


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", Address("", False, None, None, [("host", 6379)], "", 0)),
        ("rediss://u:p%40%3A%2F%2C@host:1/12", Address("", True, "u", "p@:/,", [("host", 1)], "", 12)),
        ("redis://[::1]:1", Address("", False, None, None, [("::1", 1)], "", 0)),
        (
            "redis+sentinel://:p@one,two:1,[::1]:2/my.service/3",
            Address("sentinel", False, None, "p", [("one", 26379), ("two", 1), ("::1", 2)], "my.service", 3),
        ),
        ("rediss+sentinel://one/s", Address("sentinel", True, None, None, [("one", 26379)], "s", 0)),
        ("redis+cluster://u@one,two:1", Address("cluster", False, "u", None, [("one", 6379), ("two", 1)], "", 0)),
        ("rediss+cluster://one/", Address("cluster", True, None, None, [("one", 6379)], "", 0)),
    ],
)
def test_a_url_says_where(url: str, address: Address) -> None:
    """Kind, encryption, account, hosts with their ports, service and database."""
    assert address_of(url) == address


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_cache_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    """The message names the setting, and no part of a password."""
    with pytest.raises(ConfigurationError, match=r"^CACHE_URL: ") as refused:
        connect(url)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"])
@pytest.mark.parametrize("place", ["one:1", "one:1,two:2", "one:1,two:2/service/0"])
def test_no_password_is_shown(scheme: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`upshot config` prints the hosts, however many there are."""
    monkeypatch.setenv("CACHE_URL", f"{scheme}://user:{SECRET}@{place}")

    assert load().masked()["cache_url"] == f"{scheme}://user:***@{place}"
    assert without_password(f"{scheme}://:{SECRET}%40x@{place}") == f"{scheme}://:***@{place}"
    assert without_password(f"{scheme}://{place}") == f"{scheme}://{place}"
