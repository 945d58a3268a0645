"""How a process writes its log: on standard error, one line per record as text or JSON, each with its moment in UTC.

Ours and the web server's come at the level of the settings, those of libraries from warnings on, as at other levels some of them
tell what was sent; the security log is whole at any level. A record cannot look like two: control characters are escaped, and in
text the lines of a traceback are indented, which no first line is.

A thread of its own writes. Who reads slowly, or not at all, would otherwise stop the server as soon as the pipe is full, and who
asks for much that is refused could bring that about.
"""

import json
import logging
import os
import re
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from queue import Full, Queue

from upshot import securitylog
from upshot.securitylog import quoted
from upshot.settings import Settings

OURS = ("upshot", "uvicorn")
WAITING = 10_000  # lines: some megabytes
PATIENCE = 2.0  # seconds for what waits when the process ends

log = logging.getLogger(__name__)

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.000000Z WARNING upshot.worker: what happened`."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        first = f"{_moment(record)} {record.levelname} {record.name}: {record.getMessage()}"
        following = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([_CONTROL.sub(_escaped, first), *(f"  {_CONTROL.sub(_escaped, line)}" for line in following)])


class JsonLines(logging.Formatter):
    """An object per line: `time`, `level`, `logger`, and `message`, or the fields of a line of the security log."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        content = {"time": _moment(record), "level": record.levelname, "logger": record.name}
        content |= getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return quoted(content)


class Lines(logging.Handler):
    """Writes to a file without making anybody wait: at most so many lines wait there, what is more is counted and told."""

    def __init__(self, file: int, waiting: int = WAITING) -> None:
        super().__init__()
        self._file = file
        self._lost, self._counting = 0, threading.Lock()
        self._waiting: Queue[bytes] = Queue(waiting)
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            self._waiting.put_nowait(self._line(record))
        except Full:
            with self._counting:
                self._lost += 1
            with suppress(Full):  # it has caught up since, and would not look at the count before the next line
                self._waiting.put_nowait(b"")

    def flush(self) -> None:
        """Wait until all is written, for two seconds at most."""
        end = time.monotonic() + PATIENCE
        while self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.01)

    def _write(self) -> None:
        while True:
            self._put(self._waiting.get())
            if self._lost and self._waiting.empty():
                with self._counting:
                    lost, self._lost = self._lost, 0
                # Not by the queue, where it could be one of the lost.
                message = "%d lines were lost here: they were read more slowly than written"
                self._put(self._line(log.makeRecord(log.name, logging.WARNING, __file__, 0, message, (lost,), None)))
            self._waiting.task_done()

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode("utf-8", "backslashreplace")

    def _put(self, line: bytes) -> None:
        with suppress(OSError):  # whoever read it has gone
            while line:
                line = line[os.write(self._file, line) :]


def configure(settings: Settings) -> None:
    """Write this process's log as the settings say."""
    handler = Lines(sys.stderr.fileno())
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler])
    logging.captureWarnings(capture=True)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger(securitylog.NAME).setLevel(logging.INFO)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0]).strip('"').replace("\x7f", "\\u007f")
