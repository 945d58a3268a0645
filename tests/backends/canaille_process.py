"""Canaille, serving what a file says: its settings, users, groups and clients. Run by `tests.backends.provider`."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from asgiref.wsgi import WsgiToAsgi
from canaille import create_app  # type: ignore[import-untyped]
from canaille.backends import Backend  # type: ignore[import-untyped]
from hypercorn.asyncio import serve
from hypercorn.config import Config


def main(file: Path) -> None:
    """Serve until a signal ends it."""
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    app = create_app(told["settings"])
    with app.app_context(), Backend.instance.session():
        Backend.instance.restore(told["objects"])
    config = Config()
    config.bind = [told["settings"]["SERVER_NAME"]]
    asyncio.run(serve(WsgiToAsgi(app), config, mode="asgi"))  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
