"""Settings that say where things are kept, and what is done with them."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from upshot.environment import plain


class StoreSettings(BaseSettings):
    """Databases, queue, spool, cache, scheduled work."""

    database_url: str | None = Field(
        None,
        validation_alias=plain("DATABASE_URL"),
        description="Control store: sqlite:///, postgresql:// or mysql:// (MariaDB); a SQLite file in the data folder otherwise.",
    )
    migration_database_url: str | None = Field(
        None,
        validation_alias=plain("MIGRATION_DATABASE_URL"),
        description="The same PostgreSQL database with the role that owns the tables and changes the schema; then the role of "
        "`DATABASE_URL` must not be able to bypass row-level security.",
    )
    read_database_url: str | None = Field(
        None,
        validation_alias=plain("READ_DATABASE_URL"),
        description="A replica of the control store's database: lists and results read it, assignments never do.",
    )
    events_url: str | None = Field(
        None,
        description="Event store: duckdb:///, postgresql://, mysql://, sqlite:///, clickhouse:// or chdb:///; by default the "
        "database of `DATABASE_URL` where that is a server, else a DuckDB file in the data folder.",
    )
    queue_url: str | None = Field(
        None,
        validation_alias=plain("QUEUE_URL"),
        description="Queue in front of the event store: amqp://, redis://, kafka:// or sqs://; `upshot worker` empties it.",
    )
    spool_bytes: int = Field(
        0,
        ge=0,
        description="How much a local spool may hold while queue or event store are away; 0 answers 503 instead.",
    )
    retention_days: int | None = Field(
        None, ge=1, description="How long events are kept, in days; for ever by default. Assignments and results stay."
    )
    export_dir: Path | None = Field(
        None, description="Folder into which user-level rows of every running experiment are written once a day."
    )
    export_format: str = Field(
        "csv", pattern="^(csv|ndjson|parquet)$", description="Format of the files in the export folder."
    )
    scheduler: str = Field(
        "worker", pattern="^(worker|celery)$", description="Who does the scheduled work: our own processes, or Celery."
    )
    celery_broker_url: str | None = Field(
        None, description="Broker of `celery -A upshot.celeryapp`: amqp:// or redis://."
    )
    cache_url: str = Field(
        "memory://",
        validation_alias=plain("CACHE_URL"),
        description="Cache of experiments and assignments: memory:// is the process's own; redis://host:6379/0, "
        "redis+sentinel://host1:26379,host2:26379/service or redis+cluster://host1:6379,host2:6379 is one behind it that all "
        "processes share; `rediss` for TLS.",
    )
