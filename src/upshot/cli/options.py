"""Options that several commands have."""

from pathlib import Path

import click

data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the embedded stores.")
url = click.option(
    "--url", envvar="UPSHOT_URL", help="A running server; by default the one on the data folder, if any."
)
token = click.option("--token", envvar="UPSHOT_TOKEN", help="Bearer token; by default the one in the data folder.")
