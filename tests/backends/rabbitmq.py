"""A RabbitMQ broker: Debian's `rabbitmq-server`, with a node name, an epmd and folders of its own."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.backends import accepts, free_port, process, program, wait_until
from tests.backends.daemon import family, freeze

HOW = "apt-get install --no-install-recommends rabbitmq-server"
_CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


@dataclass
class RabbitMQ:
    """A running broker."""

    url: str
    port: int
    child: subprocess.Popen[bytes]
    environment: dict[str, str]

    def pause(self) -> None:
        """Stop every process of the broker, with its connections open."""
        freeze(*family(self.child.pid))

    def resume(self) -> None:
        """Let it go on."""
        for pid in family(self.child.pid):
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Stop the broker's application: the port is closed, the node stays."""
        self.control("stop_app")

    def restart(self) -> None:
        """Start the application again, from its disk."""
        self.control("start_app")
        wait_until(lambda: accepts(self.port), what="RabbitMQ")

    def control(self, *arguments: str) -> str:
        """What rabbitmqctl answers."""
        command = [program("rabbitmq", HOW, _CONTROL), *arguments]
        return subprocess.run(
            command, env=os.environ | self.environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout


@contextmanager
def running(folder: Path) -> Iterator[RabbitMQ]:
    """A broker with its files in a folder."""
    server = program("rabbitmq", HOW, "/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")
    port, distribution, mapper = free_port(), free_port(), free_port()
    (folder / "enabled_plugins").write_text("[].")
    (folder / "rabbitmq.conf").write_text("loopback_users = none\nlog.console = true\nlog.file = false\n")
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"upshot{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(mapper),
    }
    with (
        # Started by us, the port mapper ends with us; a node that finds none would leave one behind.
        process(
            program("rabbitmq", HOW, "epmd"), "-address", "127.0.0.1", "-port", str(mapper), log=folder / "epmd.log"
        ),
        process(server, log=folder / "out", environment=environment) as child,
    ):
        wait_until(lambda: accepts(port) or child.poll() is not None, what="RabbitMQ")
        broker = RabbitMQ(f"amqp://guest:guest@127.0.0.1:{port}/", port, child, environment)
        yield broker
