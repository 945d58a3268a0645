"""What a transaction knows of webhooks: the contract, which `sqlhooks.py` serves."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from upshot.webhooks import Delivery, Webhook


class ReadHooks(Protocol):
    """What can be read."""

    async def webhooks(self, client: str) -> list[Webhook]:
        """All webhooks, the newest first; addresses and secrets as they were stored."""
        ...

    async def webhook(self, client: str, webhook_id: str) -> Webhook | None:
        """The webhook with that id."""
        ...

    async def deliveries(self, client: str, webhook_id: str, limit: int) -> list[Delivery]:
        """The last deliveries of a webhook, the newest first."""
        ...

    async def delivery(self, client: str, webhook_id: str, delivery_id: str) -> Delivery | None:
        """A delivery of that webhook."""
        ...


class Hooks(ReadHooks, Protocol):
    """What can be changed."""

    async def add_webhook(self, client: str, webhook: Webhook) -> None:
        """Store a new webhook."""
        ...

    async def save_webhook(self, client: str, webhook: Webhook) -> None:
        """Store a changed webhook."""
        ...

    async def delete_webhook(self, client: str, webhook_id: str) -> None:
        """Remove a webhook; its deliveries go with it."""
        ...

    async def add_deliveries(self, client: str, deliveries: Sequence[Delivery]) -> None:
        """Store new deliveries."""
        ...

    async def save_delivery(self, client: str, delivery: Delivery) -> None:
        """Store a changed delivery."""
        ...

    async def raise_alarm(self, client: str, experiment_id: str, kind: str, subject: str, now: datetime) -> bool:
        """Note that an alarm of that kind was raised over the subject; False when it was before."""
        ...
