"""`upshot serve`: the server on its address, which is uvicorn with our protocol."""

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import click
import uvicorn
import uvloop

from upshot import datafolder
from upshot.access import DEFAULT_CLIENT
from upshot.cli import backups, logs, options
from upshot.errors import ConfigurationError
from upshot.http.app import create_app
from upshot.http.protocol import BoundedProtocol
from upshot.operations import Stores, people
from upshot.settings import Settings, load

BACKLOG = 512
GRACE_SECONDS = 15
SWITCH_SECONDS = 0.0005  # how long a store's thread may hold the interpreter while requests wait; Python's own is 5 ms


@click.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@options.data_dir
def serve(host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Run the server until Ctrl-C."""
    uvloop.run(run(load(host=host, port=port, data_dir=data_dir)))


async def run(settings: Settings) -> None:
    """Serve until a signal ends it."""
    sys.setswitchinterval(SWITCH_SECONDS)
    logs.configure(settings)
    folder = datafolder.prepared(settings)
    fresh = not settings.clients and not (folder / datafolder.TOKEN_FILE).exists()
    tokens = datafolder.clients(settings)
    with (
        datafolder.alone(settings) if settings.embedded or settings.spool_bytes else nullcontext(),
        listening(settings) as (listener, address),
    ):

        def announce() -> None:
            (folder / datafolder.ADDRESS_FILE).write_text(address)
            click.echo(f"Upshot serves on {address} (the dashboard; API pages: {address}/docs)")
            if fresh:
                click.echo(
                    f"No token was configured, so one was made. It is shown once and kept in {folder / datafolder.TOKEN_FILE}:"
                )
                click.echo(f"  {datafolder.own_token(settings)}")

        def invite(secret: str) -> None:
            click.echo(
                "Nobody has an account yet. The first admin chooses a password here; the link is good once, for a day:"
            )
            click.echo(f"  {settings.public_url or address}/setup#{secret}")

        try:
            await Server(settings, tokens, listener, announce, invite).serve()
        finally:
            (folder / datafolder.ADDRESS_FILE).unlink(missing_ok=True)


class Server(uvicorn.Server):
    """uvicorn with our limits, on a socket that is open already."""

    def __init__(
        self,
        settings: Settings,
        tokens: dict[str, str],
        listener: socket.socket,
        announce: Callable[[], None],
        invite: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._announce = announce
        self._invite = invite
        self._invitation: str | None = None
        self._app = create_app(settings, tokens)
        BoundedProtocol.CONNECTIONS_PER_ADDRESS = settings.connections_per_address
        BoundedProtocol.HEAD_SECONDS, BoundedProtocol.BODY_SECONDS = settings.head_seconds, settings.body_seconds
        BoundedProtocol.ANSWER = self._app.at_once
        super().__init__(
            uvicorn.Config(
                self._app, http=BoundedProtocol, loop="uvloop", lifespan="off", log_config=None, log_level=settings.log_level,
                proxy_headers=bool(settings.trusted_proxies), forwarded_allow_ips=settings.trusted_proxies,
                access_log=False, server_header=False, date_header=True, backlog=BACKLOG,
                timeout_keep_alive=settings.keep_alive_seconds, timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )  # fmt: skip

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the server, and the process goes on to its own end: uvicorn would raise them again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: streams, which would go on for ever, look at this."""
        self._app.application.state.stopping = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, then say so."""
        gc.collect()
        gc.freeze()  # what a start makes stays as long as what it imports: see __main__.py
        await super().startup(sockets)
        self._announce()
        if self._invitation is not None:
            self._invite(self._invitation)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the stores, serve until a signal ends it, and close them.

        Raises:
            ConfigurationError: a store cannot be opened.
        """
        async with self._app.lifespan(), self._backups():
            if self._settings.embedded and self._settings.password_sign_in:
                # On a server database many processes start, and their logs go far: there it is `upshot user create`.
                self._invitation = await people.first_invitation(self._stores, DEFAULT_CLIENT)
            await super().serve([self._listener] if sockets is None else sockets)

    def _backups(self) -> AbstractAsyncContextManager[None]:
        """Backups on demand, of stores that no other process can open."""
        return backups.offered(self._settings, self._stores) if self._settings.embedded else nullcontext()

    @property
    def _stores(self) -> Stores:
        stores: Stores = self._app.application.state.stores
        return stores


@contextmanager
def listening(settings: Settings) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket, and its address for people."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it: else the body of an answer waits 40 ms until the client has acknowledged its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
        shown = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
        yield listener, f"http://{shown}:{listener.getsockname()[1]}"
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    finally:
        listener.close()
