"""The tables of an event store, as every engine has them. Facts are keyed by integers; the strings stand beside them.

Times are microseconds since 1970 UTC in 64-bit integers: exact, equal on every engine, and compared without conversion.
`user_key` is 64 bits of a hash of (client, user id): two users of one client share a key with probability n²/2^65, which is
3·10^-8 for a million users. `type_key` numbers the event types of all clients, so that it implies the client. `ordinal` is null
where a client does not number its events.
"""

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, SmallInteger, String, Table, Text

metadata = MetaData()

clients = Table(
    "clients", metadata,
    Column("client_key", Integer, nullable=False),
    Column("client", String, nullable=False),
)  # fmt: skip

event_types = Table(
    "event_types", metadata,
    Column("type_key", Integer, nullable=False),
    Column("client_key", Integer, nullable=False),
    Column("name", String, nullable=False),
)  # fmt: skip

events = Table(
    "events", metadata,
    Column("seq", BigInteger, nullable=False),
    Column("type_key", Integer, nullable=False),
    Column("user_key", BigInteger, nullable=False),
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("value", Float(53)),
    Column("flags", SmallInteger, nullable=False),
    Column("id_high", BigInteger, nullable=False),
    Column("id_low", BigInteger, nullable=False),
    Column("fingerprint", BigInteger, nullable=False),
    Column("user_id", String, nullable=False),
    Column("event_id", String, nullable=False),
    Column("experiment_id", String),
    Column("properties", Text, nullable=False),
    Column("ordinal", BigInteger),
)  # fmt: skip

exposures = Table(
    "exposures", metadata,
    Column("seq", BigInteger, nullable=False),
    Column("client_key", Integer, nullable=False),
    Column("experiment", BigInteger, nullable=False),
    Column("user_key", BigInteger, nullable=False),
    Column("variant", SmallInteger, nullable=False),
    Column("phase", SmallInteger, nullable=False),
    Column("exposed_at", BigInteger, nullable=False),
    Column("id_high", BigInteger, nullable=False),
    Column("id_low", BigInteger, nullable=False),
    Column("user_id", String, nullable=False),
    Column("context", Text, nullable=False),
)  # fmt: skip

# Ids that are linked: who has an alias is that user, whatever stands beside the events and exposures. The user's own id is one of
# the aliases, so that all ids of a user who has several are found here.
aliases = Table(
    "aliases", metadata,
    Column("client_key", Integer, nullable=False),
    Column("alias_key", BigInteger, nullable=False),
    Column("user_key", BigInteger, nullable=False),
    Column("user_id", String, nullable=False),
)  # fmt: skip

# Users whose exposure in an experiment counts no longer, and why.
withdrawals = Table(
    "withdrawals", metadata,
    Column("client_key", Integer, nullable=False),
    Column("experiment", BigInteger, nullable=False),
    Column("user_key", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
)  # fmt: skip

# How often an event came again: one row per append that met any, summed when it is read.
repeats = Table(
    "repeats", metadata,
    Column("type_key", Integer, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("conflicts", BigInteger, nullable=False),
)  # fmt: skip

# Periods that were touched since they were rolled up, and what was rolled up (rollups.py).
marks = Table(
    "marks", metadata,
    Column("mark", BigInteger, nullable=False),
    Column("client_key", Integer, nullable=False),
    Column("type_key", Integer, nullable=False),
    Column("experiment", BigInteger, nullable=False),
    Column("grain", BigInteger, nullable=False),
    Column("starts", BigInteger, nullable=False),
)  # fmt: skip

rollups = Table(
    "rollups", metadata,
    Column("client_key", Integer, nullable=False),
    Column("experiment", BigInteger, nullable=False),
    Column("type_key", Integer, nullable=False),
    Column("grain", BigInteger, nullable=False),
    Column("starts", BigInteger, nullable=False),
    Column("variant", SmallInteger, nullable=False),
    Column("phase", SmallInteger, nullable=False),
    Column("users", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("late", BigInteger, nullable=False),
    Column("total", Float(53), nullable=False),
    Column("mean", Float(53), nullable=False),
    Column("variance", Float(53), nullable=False),
    Column("count_mean", Float(53), nullable=False),
    Column("count_variance", Float(53), nullable=False),
)  # fmt: skip
