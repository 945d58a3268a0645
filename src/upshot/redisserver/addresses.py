"""Where a Redis is, as a URL says it.

    redis://user:password@host:6379/0                                   one server
    redis+sentinel://user:password@host1:26379,host2:26379/service/0    the primary of a service, as Sentinels tell it
    redis+cluster://user:password@host1:6379,host2:6379                 a Cluster; its nodes name the others

`rediss` instead of `redis` is TLS. User and password are those of the servers, percent-encoded; Sentinels are asked without.
"""

import re
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from upshot.errors import ConfigurationError

CONNECTIONS = (
    8  # to a server: an answer takes less than 0.1 ms of it; more would only be opened all at once at the start
)
PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}

Client: TypeAlias = Redis | RedisCluster

_SCHEME = re.compile(r"(redis|rediss)(?:\+(sentinel|cluster))?")
_PATHS = {
    "": re.compile(r"(?P<service>)(?P<database>\d{0,3})"),
    "sentinel": re.compile(r"(?P<service>[\w.-]+)(?:/(?P<database>\d{1,3}))?"),
    "cluster": re.compile(r"(?P<service>)(?P<database>0?)"),
}


class FirstArgument:
    """Finds the key of a command, for a Cluster. Those that are asked here have one, the first argument.

    redis-py's own way has the server list all commands whenever it learns the slots, and reads that for 60 ms.
    """

    async def initialize(self, node: ClusterNode | None = None) -> None:
        """There is nothing to ask."""

    async def get_keys(self, *args: Any) -> tuple[str, ...]:
        """The key of a command with its arguments."""
        return args[1:2]


class Address(NamedTuple):
    """The parts of a URL. `kind` is "sentinel", "cluster", or empty for one server."""

    kind: str
    tls: bool
    user: str | None
    password: str | None
    nodes: list[tuple[str, int]]
    service: str
    database: int


def clients_at(url: str, setting: str, seconds: float) -> tuple[Any, ...]:
    """The client of a URL, and behind it what has to be closed with it. Each connecting and reading ends after `seconds`.

    Raises:
        ConfigurationError: the URL cannot be used; it is not repeated.
    """
    try:
        return _clients(address_of(url), seconds)
    except ValueError:
        raise ConfigurationError(
            f"{setting}: must be like redis://user:password@host:6379/0, redis+sentinel://host1:26379,host2:26379/service "
            "or redis+cluster://host1:6379,host2:6379, without parameters"
        ) from None


def address_of(url: str) -> Address:
    """The parts of a URL.

    Raises:
        ValueError: it is not as it must be.
    """
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    credentials, _, hosts = place.rpartition("@")
    user, _, password = credentials.partition(":")
    form = _SCHEME.fullmatch(scheme)
    if form is None:
        raise ValueError("unknown scheme")
    kind = form[2] or ""
    said = _PATHS[kind].fullmatch(path)
    nodes = [_node(host, PORTS[kind]) for host in hosts.split(",")]
    if said is None or (not kind and len(nodes) > 1):
        raise ValueError("not a place")
    return Address(
        kind,
        form[1] == "rediss",
        unquote(user) or None,
        unquote(password) or None,
        nodes,
        said["service"],
        int(said["database"] or 0),
    )


def _node(text: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if parts.netloc != text or not parts.hostname or parts.port == 0:
        raise ValueError("not a host")
    return parts.hostname, parts.port or default


def _clients(address: Address, seconds: float) -> tuple[Any, ...]:
    bounds: dict[str, Any] = {
        "socket_connect_timeout": seconds,
        "socket_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # with RESP 3 redis-py (8.1) does not notice that the server has closed an idle connection
    }
    own = bounds | {"username": address.user, "password": address.password, "max_connections": CONNECTIONS}
    tls: dict[str, Any] = {"ssl": True} if address.tls else {}
    if address.kind == "cluster":
        startup = [ClusterNode(*node) for node in address.nodes]
        # What covers some slots is good for those; a slot that moved is noted by itself, and a name is asked for anew.
        lenient: dict[str, Any] = {
            "require_full_coverage": False,
            "reinitialize_steps": 0,
            "dynamic_startup_nodes": False,
        }
        client = RedisCluster(startup_nodes=startup, **lenient, **own, **tls)
        client.commands_parser = FirstArgument()  # type: ignore[assignment]  # as much of a parser as is used
        return (client,)
    if address.kind == "sentinel":
        sentinels = Sentinel(address.nodes, sentinel_kwargs=bounds | tls)  # type: ignore[no-untyped-call]
        return sentinels.master_for(address.service, db=address.database, **own, **tls), sentinels
    (host, port), kind = address.nodes[0], SSLConnection if address.tls else Connection
    own |= {"connection_class": kind, "host": host, "port": port, "db": address.database}
    return (Redis.from_pool(BlockingConnectionPool(timeout=seconds, **own)),)
