"""SQS and SNS as moto imitates them, in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.backends import accepts, free_port, process, unavailable, wait_until
from tests.backends.daemon import freeze


@dataclass
class Moto:
    """A running imitation that can be paused."""

    port: int
    child: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """A QUEUE_URL that creates what it names."""
        return f"sqs://eu-west-1?{urlencode({'endpoint': f'http://127.0.0.1:{self.port}', 'create': 1})}"

    def pause(self) -> None:
        """Stop the process, with its connections open."""
        freeze(self.child.pid)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.child.pid, signal.SIGCONT)


@contextmanager
def running(folder: Path) -> Iterator[Moto]:
    """An imitation, and credentials that AWS would not take."""
    if find_spec("moto") is None:
        unavailable("sqs", "pip install 'moto[server,sqs,sns]'")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with process(*command, log=folder / "out") as child, pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
            patch.setenv(name, value)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        wait_until(lambda: accepts(port), what="moto")
        yield Moto(port, child)
