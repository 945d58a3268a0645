"""Seal anew what a former key sealed: addresses and secrets of webhooks, second factors. A day after a key was replaced the
former one is needed no more; answers that are given again are forgotten by then."""

from dataclasses import replace

from upshot.control import Transaction
from upshot.operations import Stores


async def renew(stores: Stores) -> int:
    """Seal with the first key what others sealed, of all clients; returns how many secrets that were. What no key opens stays."""
    renewed = 0
    for client in await stores.control.clients():
        async with stores.control.transaction(client) as transaction:
            renewed += await _webhooks(stores, transaction, client) + await _factors(stores, transaction, client)
    return renewed


async def _webhooks(stores: Stores, transaction: Transaction, client: str) -> int:
    count, renewed = 0, stores.keyring.renewed
    for webhook in await transaction.hooks.webhooks(client):
        former = webhook.former_secret and renewed(webhook.former_secret)
        fresh = renewed(webhook.url), renewed(webhook.secret), former
        if any(fresh):
            url, secret, former = fresh[0] or webhook.url, fresh[1] or webhook.secret, former or webhook.former_secret
            await transaction.hooks.save_webhook(client, replace(webhook, url=url, secret=secret, former_secret=former))
        count += sum(map(bool, fresh))
    return count


async def _factors(stores: Stores, transaction: Transaction, client: str) -> int:
    count = 0
    for user in await transaction.accounts.users(client):
        fresh = stores.keyring.renewed(user.factor.secret) if user.factor else None
        if user.factor and fresh:
            await transaction.accounts.save_user(client, replace(user, factor=replace(user.factor, secret=fresh)))
            count += 1
    return count
