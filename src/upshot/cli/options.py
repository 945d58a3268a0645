"""Options that several commands have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the embedded stores.")
_url = click.option(
    "--url", envvar="UPSHOT_URL", help="A running server; by default the one on the data folder, if any."
)
_token = click.option("--token", envvar="UPSHOT_TOKEN", help="Bearer token; by default the one in the data folder.")


def server(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which server is asked, and as whom: `--data-dir`, `--url`, `--token`."""
    return data_dir(_url(_token(command)))
