"""The data folder: who works on it, the secrets that were made in it, and where its server answers."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from upshot.access import DEFAULT_CLIENT
from upshot.clock import new_token
from upshot.errors import ConfigurationError
from upshot.settings import Settings

ADDRESS_FILE = "server"
SECRET_FILE = "secret"  # noqa: S105 - the name of a file
TOKEN_FILE = "token"  # noqa: S105 - the name of a file


def prepared(settings: Settings) -> Path:
    """The folder, made where it is not there.

    Raises:
        ConfigurationError: it cannot be made, or not be written.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the data folder {folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(f"the data folder {folder} cannot be written")
    return folder


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the data folder: embedded stores have one process at a time."""
    folder = prepared(settings)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"another Upshot runs on the data folder {folder}") from None
        yield


def clients(settings: Settings) -> dict[str, str]:
    """The configured tokens and their clients; without any, one random token of the data folder."""
    if settings.clients:
        return settings.clients
    return {kept_secret(prepared(settings) / TOKEN_FILE, new_token): DEFAULT_CLIENT}


def own_token(settings: Settings) -> str:
    """A token that this server takes."""
    return next(iter(clients(settings)))


def running(settings: Settings) -> str | None:
    """The address of the server that runs on this data folder, or None."""
    path = settings.data_dir / ADDRESS_FILE
    if not path.exists():
        return None
    address = path.read_text().strip()
    try:
        httpx.get(f"{address}/livez", timeout=2).raise_for_status()
    except httpx.HTTPError:
        return None  # it was killed before it could take the file away
    return address


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret that a file holds, which is made, for its owner's eyes only, when it is not there.

    Raises:
        ConfigurationError: it can be neither read nor made.
    """
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        with (
            suppress(FileExistsError),
            os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,
        ):
            file.write(make() + "\n")
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read or made: {error.strerror}") from None
