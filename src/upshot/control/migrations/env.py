"""Alembic's entry: run the steps on the connection that `control.migrate` hands over, inside its transaction."""

from alembic import context

from upshot.control.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
context.run_migrations()
