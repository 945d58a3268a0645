"""A private PgBouncer in transaction mode, Debian's: consecutive transactions of a client meet different connections."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.backends import accepts, free_port, program
from tests.backends.daemon import ROOT, Daemon, give, ran

USER = "nobody" if ROOT else None
_HOW = "make servers, or apt install pgbouncer"
_CONFIGURATION = """[databases]
* = host={host} port={target} user=upshot

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
"""


class PgBouncer(Daemon):
    """One running pooler in front of one server; every database of the server is reached through it."""

    def __init__(self, target_url: str, folder: Path) -> None:
        self._program = program("PgBouncer", _HOW, "pgbouncer", "/usr/sbin/pgbouncer")
        self._target = urlsplit(target_url)
        self._port = free_port()
        give(folder, USER)
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(host=self._target.hostname, target=self._target.port, port=self._port),
            encoding="utf-8",
        )
        super().__init__(
            self._program,
            str(configuration),
            log=folder / "pgbouncer.log",
            user=USER,
            ending=signal.SIGTERM,
            answers=lambda: accepts(self._port),
        )

    @property
    def url(self) -> str:
        """Where the target database is reached through the pool."""
        return self._target._replace(netloc=f"upshot@127.0.0.1:{self._port}").geturl()

    @property
    def version(self) -> str:
        """The pooler's version."""
        shown = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=True)
        return shown.stdout.split()[1]


@contextmanager
def pgbouncer(target_url: str, folder: Path) -> Iterator[PgBouncer]:
    """A pooler for the time of a block; skips the test where there is none to be had."""
    pooler = PgBouncer(target_url, folder)
    try:
        ran("PgBouncer", pooler.version)
        yield pooler
    finally:
        pooler.stop()
