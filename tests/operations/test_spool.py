"""The spool: first in first out, durable before it is answered, and whatever happens to its files ends in order."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from upshot.errors import ConfigurationError, Unavailable
from upshot.eventqueue import spool as module
from upshot.eventqueue.messages import encode
from upshot.eventqueue.spool import Spool
from upshot.events import Event

CAPACITY = 100 << 20
Publish = Callable[[str, list[Event]], Awaitable[None]]


def event(name: str, properties: str = "{}") -> Event:
    """An event that is told apart by its id."""
    return Event(name, "user", "buy", 1_767_225_600_000_000, 1_767_225_600_000_001, 9.5, properties, None, 0, 7)


@asynccontextmanager
async def opened(folder: Path, capacity: int = CAPACITY) -> AsyncIterator[Spool]:
    """A spool that is closed at the end."""
    spool = Spool(folder, capacity)
    yield spool
    await spool.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's spool is."""
    return tmp_path / "spool"


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that hold few messages."""
    monkeypatch.setattr(module, "SEGMENT", 1_000)


def left(folder: Path, content: bytes) -> Path:
    """A segment that an earlier process left."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{1:016}.segment"
    path.write_bytes(content)
    return path


class Broker:
    """Takes messages; is away when its patience, counted in messages, is used up."""

    def __init__(self, patience: int = 1_000_000) -> None:
        self.patience = patience
        self.taken: list[tuple[str, str]] = []  # client and event id

    async def publish(self, client: str, events: list[Event]) -> None:
        """Take a message, or be away."""
        if not self.patience:
            raise Unavailable("The broker is away.", retry_after=1)
        self.patience -= 1
        self.taken += [(client, event.event_id) for event in events]


async def drained(spool: Spool) -> list[str]:
    """The ids of the events that wait, which are then forgotten."""
    broker = Broker()
    await spool.drain(broker.publish)
    return [event_id for _, event_id in broker.taken]


def segments(folder: Path) -> list[Path]:
    """The files that hold messages, in order."""
    return sorted(folder.glob("*.segment"))


def record(name: str) -> bytes:
    """The bytes of a message with one event, as they stand in a segment."""
    return module._record(encode("one", [event(name)]))


@pytest.mark.usefixtures("small_segments")
async def test_first_in_first_out(folder: Path) -> None:
    """Events come out as they went in, with their clients, over many segments; then nothing waits and no file is left."""
    broker = Broker()
    async with opened(folder) as spool:
        for number in range(50):
            await spool.append(
                "one" if number % 7 else "two", [event(f"{number}a"), event(f"{number}b", '{"ü": "🚀"}')]
            )
        files, waiting = len(segments(folder)), spool.waiting
        handed = await spool.drain(broker.publish)

        assert files == 10
        assert waiting > 50 * 100
        assert handed == 100
        assert [name for _, name in broker.taken] == [f"{number}{letter}" for number in range(50) for letter in "ab"]
        assert {name for client, name in broker.taken if client == "two"} == {
            f"{n}{x}" for n in range(0, 50, 7) for x in "ab"
        }
        assert (spool.waiting, segments(folder)) == (0, [])
        assert await spool.drain(broker.publish) == 0


async def test_an_event_comes_back_as_it_was(folder: Path) -> None:
    """Every field; an event that is larger than a record has one of its own."""
    events = [event("small"), event("large", '{"text": "' + "ü" * (2 * module.RECORD) + '"}'), event("last")]
    found: list[Event] = []

    async def publish(_client: str, events: list[Event]) -> None:
        found.extend(events)

    async with opened(folder) as spool:
        await spool.append("one", events)
        await spool.append("one", [])
        await spool.drain(publish)

    assert found == events


@pytest.mark.usefixtures("small_segments")
async def test_what_waits_survives_a_restart(folder: Path) -> None:
    """The next process hands on what the earlier ones left, in order, and adds to it."""
    for start in range(3):
        async with opened(folder) as spool:
            for number in range(10):
                await spool.append("one", [event(f"{start}-{number}")])
    before = sum(path.stat().st_size for path in segments(folder))

    async with opened(folder) as spool:
        assert spool.waiting == before
        assert await drained(spool) == [f"{start}-{number}" for start in range(3) for number in range(10)]


async def test_a_torn_tail_is_cut_off_wherever_it_ends(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At every byte of the last record, or when the disk kept zeros of it: the others are whole, and all goes on."""
    whole, last = record("first") + record("second"), record("torn")
    for tail in (*(last[:length] for length in range(1, len(last))), bytes(len(last)), last[:3] + bytes(5_000)):
        path = left(folder, whole + tail)
        caplog.clear()
        async with opened(folder) as spool:
            assert (spool.waiting, path.stat().st_size) == (len(whole), len(whole))
            assert "cut short" in caplog.text
            await spool.append("one", [event("third")])
            assert await drained(spool) == ["first", "second", "third"]
    assert not (folder / "damaged").exists()


async def test_a_damaged_record_is_set_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At every byte of a record in the middle, its length included: its bytes are kept apart, the others are handed on."""
    before, middle, after = record("before"), record("middle"), record("after")
    for place in range(len(middle)):
        broken = middle[:place] + bytes([middle[place] ^ 0xFF]) + middle[place + 1 :]
        left(folder, before + broken + after)
        caplog.clear()
        async with opened(folder) as spool:
            assert await drained(spool) == ["before", "after"]
            assert await drained(spool) == []
        assert (folder / "damaged").read_bytes() == broken
        assert [found.levelno for found in caplog.records] == [logging.WARNING]
        (folder / "damaged").unlink()


async def test_a_damaged_last_record_is_not_taken_for_a_torn_one(folder: Path) -> None:
    """A record that is all there was acknowledged perhaps: its bytes are kept."""
    broken = record("broken")[:-1] + b"?"
    left(folder, record("first") + broken)

    async with opened(folder) as spool:
        assert await drained(spool) == ["first"]

    assert (folder / "damaged").read_bytes() == broken


async def test_damage_while_the_process_runs_is_set_aside(folder: Path) -> None:
    """What a segment has lost of its acknowledged end is no torn tail."""
    async with opened(folder) as spool:
        await spool.append("one", [event("first")])
        await spool.append("one", [event("second")])
        content = bytearray(segments(folder)[0].read_bytes())
        content[len(record("first"))] = 0x7F  # the length of the last record
        segments(folder)[0].write_bytes(content)

        assert await drained(spool) == ["first"]
        assert (folder / "damaged").read_bytes() == content[len(record("first")) :]


async def test_a_message_that_this_program_cannot_read_is_set_aside(folder: Path) -> None:
    """A sound record of another version does not stop the others."""
    strange = module._record(b'[99,"one",[]]')
    left(folder, strange + record("first"))

    async with opened(folder) as spool:
        assert await drained(spool) == ["first"]

    assert (folder / "damaged").read_bytes() == strange


async def test_a_full_spool_says_so_and_takes_events_again(folder: Path) -> None:
    """Whoever does not fit is turned away, of a group only those; what was handed on makes room."""
    size = len(record("00"))
    async with opened(folder, capacity=size * 10) as spool:
        calls = [spool.append("one", [event(f"{number:02}")]) for number in range(15)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Unavailable)]

        assert (len(refused), spool.waiting) == (5, size * 10)
        assert all(error.retry_after for error in refused)
        assert await drained(spool) == [f"{number:02}" for number in range(10)]
        await spool.append("one", [event("15")])
        assert await drained(spool) == ["15"]


@pytest.mark.usefixtures("small_segments")
async def test_draining_stops_when_the_broker_goes_away_and_goes_on_where_it_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, nothing changes its order, and in one process nothing comes twice; a restart repeats a segment."""
    monkeypatch.setattr(module, "BATCH", 1)
    names = [f"{number:02}" for number in range(30)]
    async with opened(folder) as spool:
        for name in names:
            await spool.append("one", [event(name)])
        per_segment = segments(folder)[0].stat().st_size // len(record("00"))
        broker = Broker()
        for _ in range(8):
            broker.patience = 2
            with pytest.raises(Unavailable, match="away"):
                await spool.drain(broker.publish)
        assert [name for _, name in broker.taken] == names[:16]

    async with opened(folder) as spool:
        repeated = await drained(spool)
    assert repeated == names[16 - 16 % per_segment :]


async def test_a_segment_is_forgotten_after_all_of_it_was_published(folder: Path) -> None:
    """While `publish` has not returned, the file is there."""
    seen: list[int] = []

    async def publish(_client: str, _events: list[Event]) -> None:
        seen.append(len(segments(folder)))

    async with opened(folder) as spool:
        await spool.append("one", [event("1")])
        await spool.append("two", [event("2")])
        await spool.drain(publish)
        assert (seen, segments(folder)) == ([1, 1], [])


async def test_appending_and_draining_at_once(folder: Path) -> None:
    """Two drains do not disturb one another, nor those who append: everything comes once."""
    broker = Broker()
    async with opened(folder) as spool:

        async def drain_often() -> None:
            for _ in range(20):
                await spool.drain(broker.publish)

        async def append(client: str) -> None:
            for number in range(40):
                await spool.append(client, [event(f"{client}-{number}")])

        await asyncio.gather(drain_often(), drain_often(), *(append(f"client-{number}") for number in range(5)))
        await spool.drain(broker.publish)

    for number in range(5):
        client = f"client-{number}"
        assert [name for found, name in broker.taken if found == client] == [f"{client}-{n}" for n in range(40)]
    assert len(broker.taken) == 200


class Disk:
    """Stands between the spool and os: notes what it does, and fails when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.failing: Iterator[OSError | None] = iter(())
        self.half: Iterator[OSError | None] = iter(())
        self._sync, self._put, self._unlink = os.fsync, os.write, Path.unlink
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(Path, "unlink", self._noted_unlink(Path.unlink))

    def fsync(self, file: int) -> None:
        """Sync, or fail."""
        if error := next(self.failing, None):
            raise error
        self.log.append("fsync folder" if Path(f"/proc/self/fd/{file}").readlink().is_dir() else "fsync")
        self._sync(file)

    def write(self, file: int, content: bytes | memoryview) -> int:
        """Write; at most a half when it is to fail the next time."""
        if not Path(f"/proc/self/fd/{file}").readlink().name.endswith(("segment", "damaged")):
            return self._put(file, content)  # the event loop wakes itself by writing
        if (error := next(self.half, None)) is not None:
            self._put(file, bytes(content)[: len(content) // 2])
            raise error
        self.log.append("write")
        return self._put(file, content)

    def _noted_unlink(self, unlink: Callable[..., None]) -> Callable[..., None]:
        def noted(path: Path, *arguments: object, **options: object) -> None:
            self.log.append("unlink")
            unlink(path, *arguments, **options)

        return noted


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that is watched."""
    return Disk(monkeypatch)


async def acknowledged_order(spool: Spool, disk: Disk) -> bool:
    """Whether everything that was written before an answer was synced before it, and a new file's name with it."""
    disk.log.clear()
    await spool.append("one", [event("first")])
    first = list(disk.log)
    disk.log.clear()
    await spool.append("one", [event("second")])
    return set(first) >= {"write", "fsync", "fsync folder"} and first[-1] == "fsync" and disk.log == ["write", "fsync"]


async def test_an_answer_comes_after_fsync(folder: Path, disk: Disk) -> None:
    """Of the records, and the first time of the folder that names the file."""
    async with opened(folder) as spool:
        assert await acknowledged_order(spool, disk)


async def test_a_spool_that_does_not_sync_is_noticed(folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: without any fsync, and without that of the folder."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)
    async with opened(folder) as spool:
        assert not await acknowledged_order(spool, disk)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    monkeypatch.setattr(module, "_sync_folder", lambda _folder: None)
    async with opened(folder) as spool:
        assert not await acknowledged_order(spool, disk)


async def test_a_deletion_is_durable_and_comes_after_what_was_set_aside(folder: Path, disk: Disk) -> None:
    """First the damaged bytes are on the disk, then the segment goes, then the folder is synced."""
    left(folder, record("first") + b"\1" * 20 + record("last"))
    async with opened(folder) as spool:
        disk.log.clear()
        await drained(spool)

    assert disk.log == ["write", "fsync", "fsync folder", "unlink", "fsync folder"]


async def test_a_hundred_callers_share_fsyncs(folder: Path, disk: Disk) -> None:
    """They are all durable after a handful."""
    async with opened(folder) as spool:
        disk.log.clear()
        await asyncio.gather(*(spool.append("one", [event(str(number))]) for number in range(100)))
        assert 1 <= disk.log.count("fsync") <= 5
        assert await drained(spool) == [str(number) for number in range(100)]


async def test_after_a_failed_fsync_a_new_segment_begins(folder: Path, disk: Disk) -> None:
    """Who waited is told; what was acknowledged before stays; the same file is never trusted again."""
    async with opened(folder) as spool:
        await spool.append("one", [event("before")])
        disk.failing = iter([OSError(errno.EIO, "I/O error")])
        with pytest.raises(Unavailable) as error:
            await spool.append("one", [event("unsynced")])
        assert error.value.retry_after
        await spool.append("one", [event("after")])

        assert len(segments(folder)) == 2
        assert await drained(spool) == ["before", "after"]


@pytest.mark.parametrize("failing", [0, 1], ids=["of the folder", "of the file"])
async def test_a_failed_fsync_of_a_new_segment_leaves_nothing(folder: Path, disk: Disk, failing: int) -> None:
    """Neither a file nor a record, however often it fails."""
    async with opened(folder) as spool:
        for _ in range(3):
            disk.failing = iter([*[None] * failing, OSError(errno.EIO, "I/O error")])
            with pytest.raises(Unavailable):
                await spool.append("one", [event("unsynced")])
        assert (segments(folder), spool.waiting) == ([], 0)
        await spool.append("one", [event("after")])
        assert await drained(spool) == ["after"]


@pytest.mark.parametrize("truncates", [True, False])
async def test_a_full_disk_leaves_nothing_half_written(
    folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, *, truncates: bool
) -> None:
    """The half is taken back; where even that fails, it is not read as a message: not in this process nor after a restart."""
    async with opened(folder) as spool:
        await spool.append("one", [event("before")])
        size = segments(folder)[0].stat().st_size
        with monkeypatch.context() as patch:
            if not truncates:
                patch.setattr(os, "ftruncate", refusing)
            disk.half = iter([OSError(errno.ENOSPC, "No space left on device")])
            with pytest.raises(Unavailable, match="No space left"):
                await spool.append("one", [event("half")])
        assert (segments(folder)[0].stat().st_size == size) is truncates
        await spool.append("one", [event("after")])
        with pytest.raises(Unavailable):
            await spool.drain(Broker(patience=0).publish)

    async with opened(folder) as spool:
        assert segments(folder)[0].stat().st_size == size
        assert await drained(spool) == ["before", "after"]


def refusing(*_: object) -> None:
    """A disk that does nothing any more."""
    raise OSError(errno.EIO, "I/O error")


async def test_a_failed_deletion_is_made_up_for(folder: Path, disk: Disk) -> None:
    """Draining says that the disk fails; the next one goes on and loses nothing."""
    async with opened(folder) as spool:
        await spool.append("one", [event("first")])
        disk.failing = iter([OSError(errno.EIO, "I/O error")])
        broker = Broker()
        with pytest.raises(Unavailable, match="disk"):
            await spool.drain(broker.publish)
        await spool.append("one", [event("second")])
        await spool.drain(broker.publish)

        assert [name for _, name in broker.taken] == ["first", "second"]
        assert (spool.waiting, segments(folder)) == (0, [])


async def test_one_process_at_a_time(folder: Path) -> None:
    """A second one is told so, and may have the folder after the first."""
    async with opened(folder):
        with pytest.raises(ConfigurationError, match="another Upshot"):
            Spool(folder, CAPACITY)
    async with opened(folder):
        pass


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Spool(tmp_path / "file" / "spool", CAPACITY)
