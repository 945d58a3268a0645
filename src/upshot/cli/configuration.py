"""`upshot config`: what the settings are in effect."""

from pathlib import Path

import click

from upshot.cli import options
from upshot.settings import load


@click.command()
@options.data_dir
def config(data_dir: Path | None) -> None:
    """Print the effective settings, secrets masked."""
    for name, value in load(data_dir=data_dir).masked().items():
        click.echo(f"UPSHOT_{name.upper()}={value}")
