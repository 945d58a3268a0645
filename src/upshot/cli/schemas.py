"""`upshot migrate` and `upshot ddl`: the schemas of databases, brought up to this version or printed."""

import asyncio
from pathlib import Path

import click

from upshot.cli import options
from upshot.control import migrate as migration
from upshot.eventstore import clickhouse
from upshot.settings import load


@click.command()
@options.data_dir
def migrate(data_dir: Path | None) -> None:
    """Bring the control database to this version's schema."""
    chosen = load(data_dir=data_dir)
    revision = asyncio.run(migration.upgrade(chosen.control_store_url, chosen.migration_database_url))
    click.echo(f"the control database is at schema {revision}")


@click.command()
@click.option("--database", default="default", show_default=True, help="Name of the ClickHouse database.")
@click.option("--cluster", help="Name of the cluster; without it, the tables of one server.")
def ddl(database: str, cluster: str | None) -> None:
    """Print the statements that make ClickHouse's tables, to review or to run by hand."""
    click.echo(";\n\n".join(clickhouse.ddl(database, cluster)) + ";")
