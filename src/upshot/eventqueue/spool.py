"""A spool: messages on this machine's disk that wait until the queue, or the event store, takes events again.

The folder holds segments, files that are named in their order. A record is the length of its body, the CRC32 of it, and the
body (messages.py). Records are only ever added to the last segment that this process began; a segment goes as a whole, after
everything in it was handed on. What a crash repeats counts once, because events are identified.
"""

import asyncio
import fcntl
import logging
import os
import re
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from upshot.errors import ConfigurationError, Unavailable
from upshot.eventqueue.messages import Poison, decode, split
from upshot.events import Event
from upshot.groupcommit import GroupCommit

SEGMENT = 8 << 20  # bytes, after which a segment takes no more
RECORD = 1 << 20  # bytes; an event that is larger has a record of its own
WAITING = 64 << 20  # bytes that may wait in memory for the disk
BATCH = 1_000  # events that are handed on at a time

Publish = Callable[[str, list[Event]], Awaitable[None]]
Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")

_HEAD = struct.Struct(">II")  # length and CRC32 of the body
# A record begins so: its length is below 16 MiB and not 0, its body an array; and no body holds a zero byte.
_START = re.compile(rb"\0(?=(?!\0\0\0).{7}\[)", re.DOTALL)

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Segment:
    """A file of records, as far as they are durable; `handed` counts its batches that were handed on already."""

    path: Path
    length: int = 0
    handed: int = 0


class Spool:
    """Messages on this machine's disk that wait for the queue: first in, first out, each durable before it is answered.

    Args:
        folder: where they are kept; made when it is not there.
        capacity: how many bytes may wait.

    Raises:
        ConfigurationError: the folder cannot be used, or another process uses it.
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        self._folder = folder
        self._capacity = capacity
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sync_folder(folder.parent)
            self._lock = _locked(folder / "lock")
            self._segments = [_found(path) for path in sorted(folder.glob("*.segment"))]
        except OSError as error:
            raise ConfigurationError(f"the spool {folder} cannot be used: {error.strerror}") from error
        self._waiting = sum(segment.length for segment in self._segments)
        self._number = max((int(segment.path.stem) for segment in self._segments), default=0)
        self._file: int | None = None  # of the last segment, while records may be added to it
        # Everything below that touches files or segments runs in this one thread.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="upshot-spool")
        self._group: GroupCommit[bytes, bool] = GroupCommit(
            self._commit, group_weight=SEGMENT, waiting_weight=WAITING, weigh=len
        )
        self._one_at_a_time = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """The bytes that wait on the disk."""
        return self._waiting

    async def append(self, client: str, events: Sequence[Event]) -> None:
        """Keep events; they are on the disk on return.

        Raises:
            Unavailable: the spool or its disk is full, or the disk fails; the events may be handed on all the same.
        """
        if not events:
            return
        records = b"".join(_record(body) for body in split(client, events, RECORD))
        if not await self._group.submit(records):
            raise Unavailable("The spool is full.", retry_after=10)

    async def drain(self, publish: Publish) -> int:
        """Hand on what waits when this begins, the oldest first; returns how many events.

        A segment is forgotten after `publish` returned for all of it: what fails stays, and the next call goes on from there.

        Raises:
            Unavailable: by `publish`, which stops this; or the disk fails.
        """
        handed = 0
        async with self._one_at_a_time:
            for segment in await self._on_disk(self._sealed):
                batches, damaged = await self._on_disk(_batches, segment)
                for client, events in batches[segment.handed :]:
                    await publish(client, events)
                    segment.handed += 1
                    handed += len(events)
                await self._on_disk(self._forget, segment, damaged)
        return handed

    async def close(self) -> None:
        """Finish what was begun; everything that waits stays for the next start."""
        await self._group.drain()
        await self._on_disk(self._seal)
        self._disk.shutdown()
        os.close(self._lock)

    async def _on_disk(self, work: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)
        except OSError as error:
            raise Unavailable(f"The spool's disk fails: {error.strerror}", retry_after=10) from error

    async def _commit(self, group: Sequence[bytes]) -> list[bool]:
        return await self._on_disk(self._write, group)

    def _write(self, group: Sequence[bytes]) -> list[bool]:
        """Make durable what there is room for; tells of each whether there was."""
        room = self._capacity - self._waiting
        taken: list[bytes] = []
        answers: list[bool] = []
        for records in group:
            fits = len(records) <= room
            answers.append(fits)
            if fits:
                room -= len(records)
                taken.append(records)
        if taken:
            self._store(b"".join(taken))
        return answers

    def _store(self, content: bytes) -> None:
        try:
            file = self._file
            if file is None or self._segments[-1].length + len(content) > SEGMENT:
                file = self._begin()
            _write_all(file, content)
            os.fsync(file)
        except OSError:
            self._abandon()
            raise
        self._segments[-1].length += len(content)
        self._waiting += len(content)

    def _begin(self) -> int:
        self._seal()
        self._number += 1
        path = self._folder / f"{self._number:016}.segment"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._segments.append(_Segment(path))
        _sync_folder(self._folder)
        return self._file

    def _abandon(self) -> None:
        """End the segment with what was acknowledged: after a failed fsync a later one proves nothing about the same file."""
        if self._file is None:
            return
        with suppress(OSError):
            os.ftruncate(self._file, self._segments[-1].length)
        self._seal()
        if not self._segments[-1].length:
            with suppress(OSError):
                self._segments.pop().path.unlink()

    def _seal(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _sealed(self) -> tuple[_Segment, ...]:
        self._seal()
        return tuple(self._segments)

    def _forget(self, segment: _Segment, damaged: Sequence[bytes]) -> None:
        if damaged:
            self._set_aside(b"".join(damaged), segment)
        segment.path.unlink()
        self._segments.remove(segment)
        self._waiting -= segment.length
        _sync_folder(self._folder)

    def _set_aside(self, content: bytes, segment: _Segment) -> None:
        path = self._folder / "damaged"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write_all(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        _sync_folder(self._folder)
        log.warning("%d bytes of %s cannot be read; they were added to %s", len(content), segment.path, path)


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise ConfigurationError(f"another Upshot uses the spool {path.parent}") from None
    return file


def _found(path: Path) -> _Segment:
    """A segment of an earlier process, less a write that was cut short: nobody was told that it was done."""
    pieces = list(_pieces(path.read_bytes()))
    length = sum(len(piece) for piece, _ in pieces)
    last, body = pieces[-1] if pieces else (b"", b"")
    if last and not body and _cut_short(last):
        length -= len(last)
        log.warning("%s: a write was cut short; its %d bytes are dropped", path, len(last))
        os.truncate(path, length)
    return _Segment(path, length)


def _batches(segment: _Segment) -> tuple[list[tuple[str, list[Event]]], list[bytes]]:
    """The events of a segment by client, in order, and the pieces that cannot be read."""
    with segment.path.open("rb") as file:
        content = file.read(segment.length)
    batches: list[tuple[str, list[Event]]] = []
    damaged: list[bytes] = []
    for piece, body in _pieces(content):
        try:
            client, events = decode(body)
        except Poison:
            damaged.append(piece)
            continue
        if batches and batches[-1][0] == client and len(batches[-1][1]) + len(events) <= BATCH:
            batches[-1][1].extend(events)
        else:
            batches.append((client, events))
    return batches, damaged


def _pieces(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A segment in pieces: a record with its body, or what lies before the next record and is none, without a body."""
    place = 0
    while place < len(content):
        body = _body(content, place)
        end = place + _HEAD.size + len(body) if body else _next_record(content, place + 1)
        yield content[place:end], body
        place = end


def _next_record(content: bytes, place: int) -> int:
    found = (match.start() for match in _START.finditer(content, place) if _body(content, match.start()))
    return next(found, len(content))


def _body(content: bytes, place: int) -> bytes:
    """The body of the record that begins at a place; empty when none does."""
    start = place + _HEAD.size
    if start > len(content):
        return b""
    length, checksum = _HEAD.unpack_from(content, place)
    body = content[start : start + length]
    return body if len(body) == length and zlib.crc32(body) == checksum else b""


def _cut_short(piece: bytes) -> bool:
    """Whether the last piece of a segment is the beginning of a record, or the zeros of one that was never written."""
    return len(piece) < _HEAD.size or not piece.strip(b"\0") or len(piece) < _HEAD.size + _HEAD.unpack_from(piece)[0]


def _record(body: bytes) -> bytes:
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
