"""Webhooks: register them, tell them what happened in the transaction in which it happened, and deliver.

Addresses and secrets are sealed in the store: whoever reads the database can neither sign nor send in our name.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from upshot import securitylog, webhooks
from upshot.access import Caller
from upshot.clock import jitter, new_key
from upshot.control import Transaction
from upshot.errors import Conflict, NotFound
from upshot.operations import Stores, audit
from upshot.securitylog import Event
from upshot.webhooks import Answer, Delivery, DisabledBy, Failure, Notice, Webhook

MOST = 20
KEY_BYTES = 32
AT_ONCE = 20
HELD = timedelta(seconds=60)
"""How long a delivery belongs to who took it: longer than an attempt can take."""
KEPT = timedelta(days=30)


async def create(
    stores: Stores, caller: Caller, url: str, occasions: Collection[str], form: str
) -> tuple[Webhook, str]:
    """A new webhook, and the secret that its messages are signed with, shown once.

    Raises:
        Invalid: the URL, an occasion or the form breaks its rule.
        Conflict: the client has twenty.
    """
    now, secret = stores.clock.now(), webhooks.secret_of(new_key(KEY_BYTES))
    webhook = webhooks.create(stores.clock.new_id(), url, occasions, form, secret, now)
    async with stores.control.transaction(caller.client) as transaction:
        if len(await transaction.hooks.webhooks(caller.client)) >= MOST:
            raise Conflict(f"There are {MOST} webhooks already; remove one first.")
        await transaction.hooks.add_webhook(caller.client, _sealed(stores, webhook))
        await _note(transaction, caller, "webhook.created", None, webhook, now)
    return webhook, secret


async def every(stores: Stores, client: str) -> list[Webhook]:
    """All webhooks of the client, the newest first."""
    async with stores.control.reading(client) as view:
        return [_opened(stores, webhook) for webhook in await view.hooks.webhooks(client)]


async def read(stores: Stores, client: str, webhook_id: str) -> Webhook:
    """One webhook.

    Raises:
        NotFound: the client has no such webhook.
    """
    async with stores.control.reading(client) as view:
        return _opened(stores, _found(await view.hooks.webhook(client, webhook_id)))


async def change(stores: Stores, caller: Caller, webhook_id: str, changes: Mapping[str, Any]) -> Webhook:
    """A webhook with another `url`, `occasions` or `form`, or `disabled` or not.

    Raises:
        NotFound: the client has no such webhook.
        Conflict: it was sealed with a key that is no longer configured.
        Invalid: a change breaks its rule.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        webhook = _readable(_opened(stores, _found(await transaction.hooks.webhook(caller.client, webhook_id))))
        wanted = {"url": webhook.url, "occasions": webhook.occasions, "form": webhook.form} | dict(changes)
        made = webhooks.create(webhook.id, wanted["url"], wanted["occasions"], wanted["form"], webhook.secret, now)
        changed = replace(webhook, url=made.url, occasions=made.occasions, form=made.form)
        if "disabled" in changes:
            changed = (
                webhooks.disabled(changed, DisabledBy.USER, now) if changes["disabled"] else webhooks.enabled(changed)
            )
        await transaction.hooks.save_webhook(caller.client, _sealed(stores, changed))
        await _note(transaction, caller, "webhook.changed", webhook, changed, now)
    return changed


async def rotate(stores: Stores, caller: Caller, webhook_id: str) -> tuple[Webhook, str]:
    """A webhook with a new secret, shown once; for a day messages are signed with both.

    Raises:
        NotFound: the client has no such webhook.
        Conflict: it was sealed with a key that is no longer configured.
    """
    now, secret = stores.clock.now(), webhooks.secret_of(new_key(KEY_BYTES))
    async with stores.control.transaction(caller.client) as transaction:
        webhook = _readable(_opened(stores, _found(await transaction.hooks.webhook(caller.client, webhook_id))))
        rotated = webhooks.rotated(webhook, secret, now)
        await transaction.hooks.save_webhook(caller.client, _sealed(stores, rotated))
        await _note(transaction, caller, "webhook.rotated", None, rotated, now)
    return rotated, secret


async def remove(stores: Stores, caller: Caller, webhook_id: str) -> None:
    """Remove a webhook with what waits to be sent to it.

    Raises:
        NotFound: the client has no such webhook.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        webhook = _opened(stores, _found(await transaction.hooks.webhook(caller.client, webhook_id)))
        await transaction.hooks.delete_webhook(caller.client, webhook_id)
        await _note(transaction, caller, "webhook.removed", webhook, None, now)


async def deliveries(stores: Stores, client: str, webhook_id: str, limit: int) -> list[Delivery]:
    """The last deliveries of a webhook, the newest first.

    Raises:
        NotFound: the client has no such webhook.
    """
    async with stores.control.reading(client) as view:
        _found(await view.hooks.webhook(client, webhook_id))
        return await view.hooks.deliveries(client, webhook_id, limit)


async def redeliver(stores: Stores, caller: Caller, webhook_id: str, delivery_id: str) -> Delivery:
    """Send a message once more, with its own id; its retries begin anew.

    Raises:
        NotFound: there is no such delivery.
        Conflict: the webhook is disabled.
    """
    now = stores.clock.now()
    async with stores.control.transaction(caller.client) as transaction:
        webhook = _found(await transaction.hooks.webhook(caller.client, webhook_id))
        delivery = await transaction.hooks.delivery(caller.client, webhook_id, delivery_id)
        if delivery is None:
            raise NotFound("There is no such delivery.")
        if webhook.disabled_at is not None:
            raise Conflict("The webhook is disabled; enable it first.")
        again = replace(delivery, next_at=now, attempts=0, first_failed_at=None, delivered_at=None, given_up_at=None)
        await transaction.hooks.save_delivery(caller.client, again)
        thing, after = ("webhook", webhook_id), {"delivery": delivery_id}
        await audit.note(transaction, caller, "webhook.redelivered", thing, now, after=after)
    return again


async def tell(stores: Stores, transaction: Transaction, client: str, notice: Notice | None, now: datetime) -> None:
    """Put a notice on its way to those who want to know, in the transaction in which it came to be."""
    if notice is None:
        return
    told = [
        webhooks.delivery_for(webhook, notice, stores.clock.new_id(), now)
        for webhook in await transaction.hooks.webhooks(client)
    ]
    await transaction.hooks.add_deliveries(client, [delivery for delivery in told if delivery is not None])


async def deliver(stores: Stores) -> int:
    """Send what is due, of all clients; returns how many messages were tried. Of two processes each takes other ones."""
    now = stores.clock.now()
    taken = await stores.control.take_deliveries(now, now + HELD, AT_ONCE)
    await asyncio.gather(*(_attempt(stores, client, delivery) for client, delivery in taken))
    return len(taken)


async def forget(stores: Stores) -> int:
    """Remove deliveries that have ended a month ago; returns how many."""
    return await stores.control.forget_deliveries(stores.clock.now() - KEPT)


async def _attempt(stores: Stores, client: str, delivery: Delivery) -> None:
    async with stores.control.reading(client) as view:
        stored = await view.hooks.webhook(client, delivery.webhook_id)
    if stored is None:
        return
    answer = None if stored.disabled_at else await _sent(stores, client, _opened(stores, stored), delivery)
    now = stores.clock.now()
    async with stores.control.transaction(client) as transaction:
        # Read again: somebody may have changed or removed either meanwhile.
        webhook_now = await transaction.hooks.webhook(client, delivery.webhook_id)
        if webhook_now is None:
            return
        if answer is None or webhook_now.disabled_at is not None:
            given_up = replace(delivery, next_at=None, given_up_at=now)
            await transaction.hooks.save_delivery(client, given_up)
            return
        await transaction.hooks.save_delivery(client, webhooks.attempted(delivery, answer, now, jitter()))
        await transaction.hooks.save_webhook(client, webhooks.standing(webhook_now, answer, now))


async def _sent(stores: Stores, client: str, webhook: Webhook, delivery: Delivery) -> Answer:
    if not webhook.url:
        return Failure.UNREADABLE
    headers, body = webhooks.request_of(webhook, delivery, stores.clock.now())
    answer = await stores.outbound.post(webhook.url, headers, body)
    if answer is Failure.REFUSED_ADDRESS:
        where = webhooks.destination_of(webhook.url)
        host = where.host if where else None
        securitylog.note(Event.DESTINATION_REFUSED, client=client, webhook=webhook.id, host=host)
    return answer


async def _note(
    transaction: Transaction,
    caller: Caller,
    action: str,
    before: Webhook | None,
    after: Webhook | None,
    now: datetime,
) -> None:
    earlier, later = (None if part is None else _shown(part) for part in (before, after))
    thing = ("webhook", (after or before).id)  # type: ignore[union-attr]  # one of the two is there
    await audit.note(transaction, caller, action, thing, now, before=earlier, after=later)


def _shown(webhook: Webhook) -> dict[str, Any]:
    """What the audit log says: of the URL the host alone, as the path of some is a secret."""
    destination = webhooks.destination_of(webhook.url)
    return {
        "host": destination.host if destination else None,
        "occasions": sorted(webhook.occasions),
        "form": str(webhook.form),
        "disabled": webhook.disabled_at is not None,
    }


def _sealed(stores: Stores, webhook: Webhook) -> Webhook:
    seal = stores.keyring.seal
    former = webhook.former_secret and seal(webhook.former_secret)
    return replace(webhook, url=seal(webhook.url), secret=seal(webhook.secret), former_secret=former)


def _opened(stores: Stores, webhook: Webhook) -> Webhook:
    """A webhook as it was registered; without URL and secrets where the key that sealed them is no longer configured."""
    unseal = stores.keyring.open
    url, secret = unseal(webhook.url), unseal(webhook.secret)
    if url is None or secret is None:
        return replace(webhook, url="", secret="", former_secret=None)
    former = webhook.former_secret and unseal(webhook.former_secret)
    return replace(webhook, url=url, secret=secret, former_secret=former)


def _readable(webhook: Webhook) -> Webhook:
    if not webhook.url:
        raise Conflict(
            "The webhook was sealed with another JWT_SECRET_KEY: configure it as a previous one, or remove it."
        )
    return webhook


def _found(webhook: Webhook | None) -> Webhook:
    if webhook is None:
        raise NotFound("There is no such webhook.")
    return webhook
