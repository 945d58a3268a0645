"""The embedded event store: DuckDB in this process, with an index of identities beside it."""

from upshot.eventstore.embedded.store import open_store

__all__ = ["open_store"]
