"""Events in one SQL database: PostgreSQL, MySQL, MariaDB or SQLite."""

from upshot.eventstore.relational.store import open_store

__all__ = ["open_store"]
