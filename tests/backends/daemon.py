"""What database servers of tests have in common: a user to run as, a folder, and a process that is paused, killed, restarted."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.backends import process, wait_until

ROOT = os.geteuid() == 0
VERSIONS: dict[str, str] = {}


def ran(server: str, version: str) -> None:
    """Have a server named in the summary at the end of the run."""
    VERSIONS[server] = version


@contextmanager
def server_folder(user: str | None = None) -> Iterator[Path]:
    """A folder for a server's files, of the user it runs as; pytest's own folders are closed to every user but one."""
    with tempfile.TemporaryDirectory(prefix="upshot-") as name:
        folder = Path(name)
        give(folder, user)
        yield folder


def give(folder: Path, user: str | None) -> None:
    """Make a folder, and make it belong to the user; nothing to do when the test runs as an ordinary user."""
    folder.mkdir(parents=True, exist_ok=True)
    if user is None:
        return
    shutil.chown(folder, user)
    entering = subprocess.run(["ls", str(folder)], user=user, capture_output=True, check=False)
    assert entering.returncode == 0, f"{user} cannot enter {folder}; take it from server_folder()"


def family(pid: int) -> list[int]:
    """A process and its descendants, parents first. PostgreSQL's have sessions of their own: no signal to a group finds them."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [(int(child), int(parent)) for child, parent in (line.split() for line in listed.splitlines())]
    found = [pid]
    for member in found:
        found.extend(child for child, parent in parents if parent == member)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried by its parent does not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return shown.strip() not in {"", "Z", "Z+", "Zs", "Zs+"}


def freeze(*pids: int) -> None:
    """Stop processes, and wait until every thread of them stands still: the signals alone return before that."""
    for pid in pids:
        with suppress(ProcessLookupError):  # one that ended by itself stands still
            os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(map(_still, pids)), 10, "the standstill of a process")


def _still(pid: int) -> bool:
    try:
        threads = [path.read_text(encoding="utf-8") for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return False  # one ended meanwhile
    return all(thread.rpartition(")")[2].split()[0] in {"T", "Z"} for thread in threads)


@contextmanager
def mortal(pid: int) -> Iterator[None]:
    """Should the test process die meanwhile without a word, the server dies too: nobody else would wake or end a paused one."""
    grieving = (
        'read -r _; kill -9 $(ps -A -o pid=,ppid= | awk -v dying="$1" "\\$1 == dying || \\$2 == dying { print \\$1 }")'
    )
    watcher = subprocess.Popen(["sh", "-c", grieving, "sh", str(pid)], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()


class Daemon:
    """A server process that tests treat as outages do."""

    def __init__(
        self, *command: str, log: Path, user: str | None, ending: signal.Signals, answers: Callable[[], bool]
    ) -> None:
        self._command, self._log, self._user, self._ending, self._answers = command, log, user, ending, answers
        self._running = ExitStack()
        self.start()

    @property
    def pids(self) -> list[int]:
        """The server's processes."""
        return family(self._process.pid)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = self._running.enter_context(
            process(*self._command, log=self._log, user=self._user, ending=self._ending)
        )
        self._running.enter_context(mortal(self._process.pid))
        try:
            wait_until(lambda: self._process.poll() is not None or self._answers(), what=self._command[0])
            assert self._process.poll() is None, self._log.read_text(encoding="utf-8", errors="replace")[-4000:]
        except BaseException:
            self._running.close()
            raise

    def pause(self) -> None:
        """Stop every process where it stands: connections stay open and nothing answers."""
        freeze(*self.pids)
        freeze(*self.pids)  # again, for a child that was made meanwhile; the parent stands still now

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill −9, every process."""
        self.pause()
        dying = self.pids
        self._signal(signal.SIGKILL)
        self._running.close()
        wait_until(lambda: not any(map(alive, dying)), 10, "the end of the server's processes")

    def stop(self) -> None:
        """Shut it down in order; what runs is ended, what is paused is woken first."""
        if self._process.poll() is None:
            self.resume()
        self._running.close()

    def end(self) -> None:
        """End it when nobody needs its data any more: in order, it would tidy up what tests left behind, for half a minute."""
        if self._process.poll() is None:
            self.kill()
        else:
            self.stop()

    def restart(self) -> None:
        """Start it again, on the same port and data, after it was stopped where it runs."""
        self.stop()
        self.start()

    def _signal(self, sent: signal.Signals) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, sent)
