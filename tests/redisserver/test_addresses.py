"""Where a Redis is: what a URL says, and what it must not say again."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.connection import SSLConnection

from upshot.cache import connect
from upshot.environment import without_password
from upshot.errors import ConfigurationError
from upshot.redisserver.addresses import Address, address_of, clients_at
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


def pools(url: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The class and the settings of every connection that may be made to a URL."""
    client, *others = clients_at(url, "CACHE_URL", 0.05)
    if isinstance(client, RedisCluster):
        yield from ((node.connection_class, node.connection_kwargs) for node in client.startup_nodes)
        return
    clients = [client, *(each for sentinels in others for each in sentinels.sentinels)]
    yield from ((each.connection_pool.connection_class, each.connection_pool.connection_kwargs) for each in clients)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize(("place", "number"), [("://one", 1), ("+sentinel://one,two/s", 3), ("+cluster://one,two", 2)])
def test_every_connection_ends_in_time_is_tried_once_and_is_encrypted_where_that_is_said(
    scheme: str, place: str, number: int
) -> None:
    """To servers, Sentinels and nodes alike; a Cluster has a rule of its own for trying again, which is off, too."""
    found = list(pools(scheme + place))

    assert len(found) == number
    assert {(said["socket_timeout"], said["socket_connect_timeout"], said["protocol"]) for _, said in found} == {
        (0.05, 0.05, 2)
    }
    assert [issubclass(kind, SSLConnection) for kind, _ in found] == [scheme == "rediss"] * number
    client, *_ = clients_at(scheme + place, "CACHE_URL", 0.05)
    retries = [client.retry] if isinstance(client, RedisCluster) else [said["retry"] for _, said in found]
    assert {retry.get_retries() for retry in retries} == {0}


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
