"""Every query about webhooks, client first, on every dialect."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, insert, select, update

from upshot.control.hooktables import alarms, webhook_deliveries, webhooks
from upshot.control.sqlpart import SqlPart
from upshot.database import insert_new
from upshot.webhooks import Delivery, DisabledBy, Form, Occasion, Webhook


class SqlHooks(SqlPart):
    """What a transaction knows of webhooks. One that may write locks the webhook or delivery that it reads."""

    async def webhooks(self, client: str) -> list[Webhook]:
        """All webhooks, the newest first."""
        query = select(webhooks).where(webhooks.c.client_id == client)
        rows = await self._connection.execute(query.order_by(webhooks.c.created_at.desc(), webhooks.c.id))
        return list(map(_webhook_of, rows))

    async def webhook(self, client: str, webhook_id: str) -> Webhook | None:
        """The webhook with that id."""
        query = select(webhooks).where(webhooks.c.client_id == client, webhooks.c.id == webhook_id)
        row = (await self._read(query)).one_or_none()
        return None if row is None else _webhook_of(row)

    async def deliveries(self, client: str, webhook_id: str, limit: int) -> list[Delivery]:
        """The last deliveries of a webhook, the newest first."""
        table = webhook_deliveries.c
        query = select(webhook_deliveries).where(table.client_id == client, table.webhook_id == webhook_id)
        rows = await self._connection.execute(query.order_by(table.created_at.desc(), table.id).limit(limit))
        return list(map(delivery_of, rows))

    async def delivery(self, client: str, webhook_id: str, delivery_id: str) -> Delivery | None:
        """A delivery of that webhook."""
        table = webhook_deliveries.c
        query = select(webhook_deliveries).where(
            table.client_id == client, table.webhook_id == webhook_id, table.id == delivery_id
        )
        row = (await self._read(query)).one_or_none()
        return None if row is None else delivery_of(row)

    async def add_webhook(self, client: str, webhook: Webhook) -> None:
        """Store a new webhook."""
        await self._connection.execute(insert(webhooks).values(_values(client, webhook)))

    async def save_webhook(self, client: str, webhook: Webhook) -> None:
        """Store a changed webhook."""
        same = webhooks.c.client_id == client, webhooks.c.id == webhook.id
        await self._connection.execute(update(webhooks).where(*same).values(_values(client, webhook)))

    async def delete_webhook(self, client: str, webhook_id: str) -> None:
        """Remove a webhook; its deliveries go with it."""
        same = webhooks.c.client_id == client, webhooks.c.id == webhook_id
        await self._connection.execute(delete(webhooks).where(*same))

    async def add_deliveries(self, client: str, deliveries: Sequence[Delivery]) -> None:
        """Store new deliveries."""
        if deliveries:
            rows = [_values(client, delivery) for delivery in deliveries]
            await self._connection.execute(insert(webhook_deliveries), rows)

    async def save_delivery(self, client: str, delivery: Delivery) -> None:
        """Store a changed delivery."""
        table = webhook_deliveries.c
        changed = update(webhook_deliveries).where(table.client_id == client, table.id == delivery.id)
        await self._connection.execute(changed.values(_values(client, delivery)))

    async def raise_alarm(self, client: str, experiment_id: str, kind: str, subject: str, now: datetime) -> bool:
        """Note that an alarm was raised; False when it was before."""
        digest = sha256(subject.encode()).hexdigest()
        row = {"experiment_id": experiment_id, "kind": kind, "digest": digest, "client_id": client, "raised_at": now}
        return bool(await insert_new(self._connection, alarms, [row]))


def delivery_of(row: Any) -> Delivery:
    """The delivery of a row."""
    own = {field.name: getattr(row, field.name) for field in fields(Delivery)}
    return Delivery(**own | {"occasion": Occasion(row.occasion)})


def _values(client: str, record: Webhook | Delivery) -> dict[str, Any]:
    row = {"client_id": client} | {field.name: getattr(record, field.name) for field in fields(record)}
    if isinstance(record, Webhook):
        row |= {"occasions": sorted(record.occasions)}
    return row


def _webhook_of(row: Any) -> Webhook:
    own = {field.name: getattr(row, field.name) for field in fields(Webhook)}
    reason = row.disabled_reason and DisabledBy(row.disabled_reason)
    occasions = frozenset(map(Occasion, row.occasions))
    return Webhook(**own | {"occasions": occasions, "form": Form(row.form), "disabled_reason": reason})
