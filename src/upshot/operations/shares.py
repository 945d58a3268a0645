"""Share the result of an experiment by a link, list the links, take one back, and follow one."""

from datetime import timedelta

from upshot.access import Caller
from upshot.access.keys import digest_of
from upshot.access.shares import SECRET_LETTERS, Share
from upshot.clock import new_letters
from upshot.errors import NotFound
from upshot.operations import Stores, audit, experiments


async def create(stores: Stores, caller: Caller, reference: str, days: int | None) -> tuple[Share, str]:
    """A new link to the result of an experiment, and its secret, which nobody can be shown again. `days` None is for good.

    Raises:
        NotFound: there is no such experiment.
    """
    experiment = await experiments.read(stores, caller.client, reference)
    now, secret = stores.clock.now(), new_letters(SECRET_LETTERS)
    expires_at = None if days is None else now + timedelta(days=days)
    share = Share(stores.clock.new_id(), experiment.id, digest_of(secret), caller.name, now, expires_at)
    async with stores.control.transaction(caller.client) as transaction:
        await transaction.accounts.add_share(caller.client, share)
        after = {"experiment": experiment.id, "expires_at": expires_at and expires_at.isoformat()}
        await audit.note(transaction, caller, "share.created", ("share", share.id), now, after=after)
    return share, secret


async def every(stores: Stores, client: str, reference: str) -> list[Share]:
    """The links to the result of an experiment, the newest first.

    Raises:
        NotFound: there is no such experiment.
    """
    experiment = await experiments.read(stores, client, reference)
    async with stores.control.reading(client) as transaction:
        return await transaction.accounts.shares(client, experiment.id)


async def revoke(stores: Stores, caller: Caller, reference: str, share_id: str) -> None:
    """Take a link back: whoever follows it finds nothing from now on.

    Raises:
        NotFound: the experiment has no such link.
    """
    now = stores.clock.now()
    experiment = await experiments.read(stores, caller.client, reference)
    async with stores.control.transaction(caller.client) as transaction:
        found = await transaction.accounts.shares(caller.client, experiment.id)
        if share_id not in {share.id for share in found}:
            raise NotFound("There is no such link.")
        await transaction.accounts.delete_share(caller.client, share_id)
        before = {"experiment": experiment.id}
        await audit.note(transaction, caller, "share.revoked", ("share", share_id), now, before=before)


async def follow(stores: Stores, client: str, secret: str) -> Share:
    """The link with that secret.

    Raises:
        NotFound: there is none, it was taken back, or its time is over.
    """
    async with stores.control.reading(client) as transaction:
        share = await transaction.accounts.share(client, digest_of(secret))
    if share is None or not share.active(stores.clock.now()):
        raise NotFound("This link does not lead anywhere (any more); ask whoever sent it.")
    return share
