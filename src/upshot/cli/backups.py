"""`upshot backup`: asks the server that has the embedded stores open, through a socket that only its own user can reach."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from upshot.errors import UpshotError
from upshot.operations import Stores, backup
from upshot.settings import Settings

SOCKET_FILE = "backup"  # in the data folder; says where the socket is, whose own path must be short
_DONE = "done"


@asynccontextmanager
async def offered(settings: Settings, stores: Stores) -> AsyncIterator[None]:
    """Make the backups that are asked for, for as long as the block lasts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await backup.back_up(stores, Path((await reader.read()).decode()))
            said = _DONE
        except (UpshotError, OSError) as error:
            said = str(error)
        writer.write(said.encode())
        writer.close()

    told = settings.data_dir / SOCKET_FILE
    with tempfile.TemporaryDirectory(prefix="upshot-") as private:
        listening = await asyncio.start_unix_server(answer, Path(private) / SOCKET_FILE)
        told.write_text(str(Path(private) / SOCKET_FILE))
        try:
            yield
        finally:
            told.unlink(missing_ok=True)
            listening.close()


async def ask(settings: Settings, folder: Path) -> None:
    """Have the running server make a backup.

    Raises:
        UpshotError: it could not be made; the message says why.
    """
    reader, writer = await asyncio.open_unix_connection((settings.data_dir / SOCKET_FILE).read_text())
    writer.write(str(folder).encode())
    writer.write_eof()
    said = (await reader.read()).decode()
    writer.close()
    if said != _DONE:
        raise UpshotError(said or "the server ended meanwhile")
