"""The last good configuration on disk, for a start while the server is away."""

import os
import tempfile
from contextlib import suppress
from os import PathLike
from pathlib import Path

from upshot.errors import Unavailable
from upshot.sdk.reports import Reports

_SUBJECT = "snapshot file"


class SnapshotFile:
    """One file, read by its owner only and replaced as a whole, so that a reader finds the old one or the new one."""

    def __init__(self, path: str | PathLike[str], reports: Reports) -> None:
        self._path = Path(path)
        self._reports = reports

    def read(self) -> bytes:
        """The content; empty where there is none."""
        with suppress(OSError):
            return self._path.read_bytes()
        return b""

    def write(self, content: bytes) -> None:
        """Replace the content. A disk that is full or read-only is told, and changes nothing."""
        try:
            with tempfile.NamedTemporaryFile(  # it is made with 0600
                dir=self._path.parent, prefix=f".{self._path.name}.", delete=False
            ) as file:
                try:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(self._path)
                except OSError:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError:
            self._reports.tell(_SUBJECT, Unavailable("The snapshot file cannot be written."), "snapshot_file")
        else:
            self._reports.well(_SUBJECT)
