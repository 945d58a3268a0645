"""Servers to measure against, started like ours: `python -m benchmarks.yardsticks {raw|bounded|fastapi|empty} --port 0`.

raw       a bare ASGI application that gives one prebuilt answer, on uvicorn with httptools and uvloop
bounded   the same on our protocol
fastapi   a plain FastAPI route that gives the same JSON
empty     FastAPI without any route of its own
"""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from tests.servers import RunningServer, running

CONTENT = "BENCH_CONTENT"
PATH = "/experiments/{experiment_id}/assignment/{user_id:path}"

# What ours sends beside the content, so that as many bytes go over the wire.
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-request-id", b"0123456789abcdef0123456789abcdef"),
    (b"x-process-time", b"0.000031"),
]


@contextmanager
def serving(kind: str, folder: Path, content: bytes = b"{}") -> Iterator[RunningServer]:
    """One of the servers, for the time of a block."""
    command = (sys.executable, "-m", "benchmarks.yardsticks", kind)
    with running(folder, *command, environment={CONTENT: content.decode()}) as server:
        yield server


def _raw(content: bytes) -> Any:
    headers = [(b"content-length", str(len(content)).encode()), *_HEADERS]

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return application


def _fastapi(content: bytes | None) -> Any:
    from fastapi import FastAPI  # noqa: PLC0415 - the raw servers do without

    application = FastAPI()

    @application.get("/readyz")
    async def ready() -> dict[str, str]:
        return {}

    if content is not None:
        answer = msgspec.json.decode(content)

        @application.get(PATH)
        async def assignment(experiment_id: str, user_id: str) -> dict[str, Any]:  # noqa: ARG001
            return dict(answer)

    return application


async def _serve(kind: str, port: int) -> None:
    content = os.environ[CONTENT].encode()
    http: Any = "httptools"
    if kind == "bounded":
        from upshot.http.protocol import BoundedProtocol as http  # noqa: N813, PLC0415 - the others do without
    application = _raw(content) if kind in {"raw", "bounded"} else _fastapi(content if kind == "fastapi" else None)
    lifespan: Any = "off" if kind in {"raw", "bounded"} else "on"
    config = uvicorn.Config(
        application, http=http, loop="uvloop", lifespan=lifespan, log_level="warning", access_log=False, server_header=False,
        backlog=512,
    )  # fmt: skip
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
        print(f"serves on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["raw", "bounded", "fastapi", "empty"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--data-dir")
    chosen = parser.parse_args()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(chosen.kind, chosen.port))
