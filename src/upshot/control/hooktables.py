"""The tables of webhooks, what they are told, and which alarms were raised. The migrations make exactly these, as those of
`tables.py`."""

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table

from upshot.control.tables import Document, LongText, Moment, exact, metadata

# The URL and the secrets are sealed: whoever reads the table can neither sign nor send in our name.
webhooks = Table(
    "webhooks", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("url", LongText, nullable=False),
    Column("occasions", Document, nullable=False),
    Column("form", String(20), nullable=False),
    Column("secret", LongText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("former_secret", LongText),
    Column("former_until", Moment),
    Column("failing_since", Moment),
    Column("disabled_at", Moment),
    Column("disabled_reason", String(20)),
)  # fmt: skip

# Written in the transaction of the change that they tell of; `next_at` is when one is tried next, or how long whoever tries it
# may take.
webhook_deliveries = Table(
    "webhook_deliveries", metadata,
    Column("id", exact(36), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("webhook_id", exact(36), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("occasion", String(40), nullable=False),
    Column("payload", LongText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("next_at", Moment),
    Column("attempts", Integer, nullable=False),
    Column("first_failed_at", Moment),
    Column("last_answer", String(40)),
    Column("delivered_at", Moment),
    Column("given_up_at", Moment),
)  # fmt: skip

# An alarm is raised once: for a guardrail in a variant, or for the sample ratio of a phase.
alarms = Table(
    "alarms", metadata,
    Column("experiment_id", exact(36), primary_key=True),
    Column("kind", exact(40), primary_key=True),
    Column("digest", exact(64), primary_key=True),
    Column("client_id", exact(120), nullable=False),
    Column("raised_at", Moment, nullable=False),
)  # fmt: skip

Index("ix_webhooks_client_id", webhooks.c.client_id)
Index("ix_webhook_deliveries_next_at", webhook_deliveries.c.next_at)
Index("ix_webhook_deliveries_webhook_id_created_at", webhook_deliveries.c.webhook_id, webhook_deliveries.c.created_at)
