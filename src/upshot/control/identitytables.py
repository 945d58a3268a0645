"""The table of linked ids. The migrations make exactly this, as those of `tables.py`."""

from sqlalchemy import Column, Index, Table

from upshot.control.tables import Moment, exact, metadata

# Whose an id is: an anonymous id's row names the user, the user's own row itself. So the primary key keeps any id from being
# both, whoever links what at the same moment, and one look tells whose it is. Ids that were never linked have no row.
identity_links = Table(
    "identity_links", metadata,
    Column("client_id", exact(120), primary_key=True),
    Column("id", exact(200), primary_key=True),
    Column("user_id", exact(200), nullable=False),
    Column("linked_at", Moment, nullable=False),
    sqlite_with_rowid=False,
)  # fmt: skip

Index("ix_identity_links_linked_at", identity_links.c.linked_at)
