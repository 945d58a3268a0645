"""A disk that may lose what was not synced: an SQLite VFS in Python, and the driver by which SQLAlchemy uses it.

Writes go through to the real files, so that everything reads what it wrote; beside that the disk remembers what each file
was at its last xSync and every write since. At a power cut it keeps none, a beginning, a random half (of whole writes or of
512-byte sectors) or all of those writes, and puts what remains into another folder: the disk as the next start finds it.

The shared memory of WAL mode is inherited from SQLite's own "unix" VFS and does not survive a cut, as memory does not.
"""

import random
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiosqlite
import apsw

Answer = TypeVar("Answer")

SECTOR = 512
KEEPS = ("none", "beginning", "half", "sectors", "all")


class Write(NamedTuple):
    """A write that was not synced; without data it cuts the file off at `offset`."""

    offset: int
    data: bytes | None


class Content:
    """What one file was at its last sync (None: it was not there), and what was written since."""

    def __init__(self, durable: bytes | None) -> None:
        self.durable = durable
        self.pending: list[tuple[int, Write]] = []  # with the moment, counted over all files

    def synced(self) -> None:
        """Everything that was written is durable."""
        self.durable = self.after([write for _, write in self.pending])
        self.pending.clear()

    def after(self, writes: Iterable[Write]) -> bytes | None:
        """The file when these writes, in this order, reached the disk."""
        kept = list(writes)
        if self.durable is None and not kept:
            return None
        content = bytearray(self.durable or b"")
        for offset, data in kept:
            if data is None:
                del content[offset:]
            else:
                content.extend(bytes(max(0, offset - len(content))))
                content[offset : offset + len(data)] = data
        return bytes(content)


class Disk(apsw.VFS):
    """One folder until its power is cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"disk-{id(self)}"
        self.alive = True
        self._left: int | None = None  # changes until the cut
        self._counted = ""
        self._moment = 0
        self._lock = threading.RLock()
        self._contents = {path.name: Content(path.read_bytes()) for path in folder.iterdir()}
        super().__init__(self.name, base="unix")

    def cut_after(self, changes: int, suffix: str = "") -> None:
        """Cut the power after so many more writes, syncs and truncations of the files with that ending."""
        self._left, self._counted = changes, suffix

    def cut(self) -> None:
        """Cut the power now: nothing works any more."""
        with self._lock:
            self.alive = False

    def unsynced(self, suffix: str) -> int:
        """How many writes to the files with that ending are not durable."""
        return sum(len(content.pending) for name, content in self._contents.items() if name.endswith(suffix))

    def survive(self, folder: Path, keep: str, chance: random.Random) -> None:
        """Write what is left of the files into another folder; `keep` is one of KEEPS."""
        folder.mkdir()
        reached = chance.randint(0, self._moment)
        for name, content in sorted(self._contents.items()):
            left = content.after(_kept(content.pending, keep, reached, chance))
            if left is not None:
                (folder / name).write_bytes(left)

    # What SQLite calls

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's names
        """Open a file of the folder; or one without a name, which nobody finds again after a cut: large statements spill."""
        if name is None:
            with self.changing():
                return apsw.VFSFile("unix", name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        with self.changing():
            content = self._contents.setdefault(path.name, Content(None))
        return File(self, content, path.name, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802, FBT001
        """Delete a file, for good."""
        with self.changing():
            super().xDelete(filename, syncdir)
            self._contents.pop(Path(filename).name, None)

    def excepthook(self, *_: Any) -> bool:
        """Errors after the cut are the purpose of this."""
        return True

    @contextmanager
    def changing(self, file: str | None = None) -> Iterator[None]:
        """The block in which the disk changes, at that file; raises apsw.IOError when there is no power."""
        with self._lock:
            if file is not None and self._left is not None and file.endswith(self._counted):
                self._left -= 1
                self.alive = self.alive and self._left >= 0
            if not self.alive:
                raise apsw.IOError("the power was cut")
            yield

    def remember(self, content: Content, offset: int, data: bytes | None) -> None:
        """Note an unsynced write, at the next moment."""
        self._moment += 1
        content.pending.append((self._moment, Write(offset, data)))


class File(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: Disk, content: Content, file: str, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._content = content
        self._file = file
        super().__init__("unix", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        """Write through, and remember."""
        with self._disk.changing(self._file):
            super().xWrite(data, offset)
            self._disk.remember(self._content, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        """Cut off, and remember."""
        with self._disk.changing(self._file):
            super().xTruncate(newsize)
            self._disk.remember(self._content, newsize, None)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        """Make this file durable; the real disk need not be waited for."""
        with self._disk.changing(self._file):
            self._content.synced()

    def excepthook(self, *_: Any) -> bool:
        """Errors after the cut are the purpose of this."""
        return True


def _kept(pending: list[tuple[int, Write]], keep: str, reached: int, chance: random.Random) -> list[Write]:
    if keep == "sectors":
        pending = [(moment, part) for moment, write in pending for part in _sectors(write)]
    judges: dict[str, Callable[[int], bool]] = {
        "none": lambda _: False,
        "beginning": lambda moment: moment <= reached,
        "half": lambda _: chance.random() < 0.5,
        "sectors": lambda _: chance.random() < 0.5,
        "all": lambda _: True,
    }
    return [write for moment, write in pending if judges[keep](moment)]


def _sectors(write: Write) -> list[Write]:
    if write.data is None:
        return [write]
    starts = [write.offset, *range(write.offset // SECTOR * SECTOR + SECTOR, write.offset + len(write.data), SECTOR)]
    ends = [*starts[1:], write.offset + len(write.data)]
    return [
        Write(start, write.data[start - write.offset : end - write.offset])
        for start, end in zip(starts, ends, strict=True)
    ]


# The driver: as much of sqlite3's connection and cursor as SQLAlchemy and aiosqlite use


def creator(disk: Disk, path: Path) -> Callable[..., Coroutine[Any, Any, aiosqlite.Connection]]:
    """SQLAlchemy's `async_creator` for a database on a disk."""

    async def connect(*_: object, **__: object) -> aiosqlite.Connection:
        connection = aiosqlite.Connection(lambda: _Connection(disk, path), iter_chunk_size=64)  # type: ignore[arg-type,return-value]
        connection._thread.daemon = True
        return await connection

    return connect


class _Connection:
    isolation_level = None

    def __init__(self, disk: Disk, path: Path) -> None:
        self._apsw = _translated(lambda: apsw.Connection(str(path), vfs=disk.name))

    def cursor(self) -> "_Cursor":
        return _Cursor(self._apsw)

    def create_function(self, name: str, arguments: int, function: Any, *, deterministic: bool = False) -> None:
        self._apsw.create_scalar_function(name, function, arguments, deterministic=deterministic)

    def commit(self) -> None:
        if self._apsw.in_transaction:
            self.cursor().execute("COMMIT")

    def rollback(self) -> None:
        if self._apsw.in_transaction:
            self.cursor().execute("ROLLBACK")

    def close(self) -> None:
        with suppress(apsw.Error):  # the last connection writes a checkpoint, which a disk without power refuses
            self._apsw.close()


class _Cursor:
    def __init__(self, connection: apsw.Connection) -> None:
        self._apsw = connection
        self._rows: list[tuple[Any, ...]] = []
        self.arraysize = 1
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    def execute(self, statement: str, parameters: Any = ()) -> "_Cursor":
        self._note(_translated(lambda: self._run(statement, parameters)))
        return self

    def executemany(self, statement: str, several: Iterable[Any]) -> "_Cursor":
        before = self._apsw.total_changes()
        self._note([row for one in several for row in _translated(lambda one=one: self._run(statement, one))])  # type: ignore[misc]
        self.rowcount = self._apsw.total_changes() - before
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        found, self._rows = self._rows[: size or self.arraysize], self._rows[size or self.arraysize :]
        return found

    def fetchall(self) -> list[tuple[Any, ...]]:
        found, self._rows = self._rows, []
        return found

    def close(self) -> None:
        self._rows = []

    def _run(self, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
        self.description = None

        def describe(cursor: apsw.Cursor, _: str, __: Any) -> bool:
            columns = cursor.get_description()
            self.description = tuple((column[0], *[None] * 6) for column in columns) or None
            return True

        cursor = self._apsw.cursor()
        cursor.exec_trace = describe
        return list(cursor.execute(statement, tuple(parameters) if parameters else None))

    def _note(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows
        self.rowcount = self._apsw.changes()
        self.lastrowid = self._apsw.last_insert_rowid()


def _translated(work: Callable[[], Answer]) -> Answer:
    """What `work` returns; apsw's errors as sqlite3's."""
    try:
        return work()
    except apsw.ConstraintError as error:
        raise sqlite3.IntegrityError(str(error)) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise sqlite3.DatabaseError(str(error)) from error
    except apsw.Error as error:
        raise sqlite3.OperationalError(str(error)) from error
