"""A copy of the embedded stores, made while they are in use: everything that was acknowledged before it was begun."""

import shutil
from pathlib import Path
from typing import Protocol, runtime_checkable

from upshot.errors import ConfigurationError, Unavailable
from upshot.operations import Stores


@runtime_checkable
class Copied(Protocol):
    """A store in a file of its own."""

    async def back_up(self, path: Path) -> None:
        """Copy everything into a new file, as it is at one moment."""
        ...


async def back_up(stores: Stores, folder: Path) -> None:
    """Copy both stores into a folder that is not there yet; it has its name only when it is complete.

    The control store comes first: an exposure is in its outbox until the event store has it, and counts once if it is relayed
    again. The other way round an exposure could be missing from both copies.

    Raises:
        ConfigurationError: a store is not a file, or the folder is there or cannot be made.
        Unavailable: events wait in the spool, which is not copied.
    """
    control, events = stores.control, stores.events
    if not (isinstance(control, Copied) and isinstance(events, Copied)):
        raise ConfigurationError("only SQLite and DuckDB are backed up like this; others have their own tools")
    if stores.spool is not None and stores.spool.waiting:
        raise Unavailable("Events wait in the spool; make the backup when they have been handed on.", retry_after=5)
    growing = _begun(folder)
    try:
        await control.back_up(growing / "control.db")
        await events.back_up(growing / "events.db")
    except BaseException:
        shutil.rmtree(growing)
        raise
    growing.rename(folder)


def _begun(folder: Path) -> Path:
    growing = folder.with_name(f"{folder.name}.partial")
    if folder.exists():
        raise ConfigurationError("the folder of a backup must not be there yet")
    try:
        growing.mkdir(0o700, parents=True)
    except OSError as error:
        raise ConfigurationError(f"the folder {growing} cannot be made: {error.strerror}") from error
    return growing
