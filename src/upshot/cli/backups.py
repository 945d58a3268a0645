"""`upshot backup`: asks the server that has the embedded stores open, through a socket that only its own user can reach."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from upshot import datafolder
from upshot.backends import open_stores
from upshot.cli import options
from upshot.errors import UpshotError
from upshot.operations import Stores
from upshot.operations.backup import back_up
from upshot.settings import Settings, load

SOCKET_FILE = "backup"  # in the data folder; says where the socket is, whose own path must be short
_DONE = "done"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@options.data_dir
def backup(folder: Path, data_dir: Path | None) -> None:
    """Copy the embedded stores into FOLDER, which is new; a server may run. Restored, it is a data folder."""
    asyncio.run(run(load(data_dir=data_dir), folder.absolute()))
    click.echo(f"everything that was acknowledged until now is in {folder}")


async def run(settings: Settings, folder: Path) -> None:
    """Make a backup: the running server does, or without one this process."""
    if datafolder.running(settings):
        await ask(settings, folder)
    else:
        with datafolder.alone(settings):
            stores = await open_stores(settings)
            try:
                await back_up(stores, folder)
            finally:
                await stores.close()
    # Without the secret nobody could open what is sealed in the copy.
    for name in (datafolder.TOKEN_FILE, datafolder.SECRET_FILE):
        if (settings.data_dir / name).exists():
            shutil.copy2(settings.data_dir / name, folder)


@asynccontextmanager
async def offered(settings: Settings, stores: Stores) -> AsyncIterator[None]:
    """Make the backups that are asked for, for as long as the block lasts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await back_up(stores, Path((await reader.read()).decode()))
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
