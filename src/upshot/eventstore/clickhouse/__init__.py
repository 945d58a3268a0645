"""The event store in ClickHouse: a server or a cluster over HTTP (server.py), or the engine in this process (inprocess.py).

Acknowledged means: the server has written the rows as parts of the tables and synced them (on a cluster: a majority of the
replicas of each shard have them). An append is several inserts, and ClickHouse has no transaction over them: the events come
first and their identities after, so that a crash in between leaves events that are merely not known yet, and the retry stores
them a second time. Reading counts them once: rows of one event have one place in the sort key, and every query asks for them
`FINAL`, which keeps the one that was stored first.

What that does not cover: two different contents under one event id both count when they come at the same moment through two
processes, or the second after a failure of the first that was never acknowledged, and they differ in user or event type.
"""

from upshot.eventstore.clickhouse.schema import ddl

__all__ = ["ddl"]
