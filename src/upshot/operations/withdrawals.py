"""Leave users out of results who are shown what an override says after they had entered."""

from collections.abc import Sequence

from upshot.assignment import Assignment
from upshot.control import Transaction
from upshot.events import OVERRIDE, Withdrawal
from upshot.experiments import Experiment
from upshot.operations import Stores
from upshot.operations.copies import LEFT_OUT

MANY = 1_000


async def of_named(transaction: Transaction, client: str, experiment: Experiment) -> None:
    """Those whom the experiment's overrides name, and who have entered it."""
    named = sorted({user for override in experiment.overrides for user in override.users})
    for start in range(0, len(named), MANY):
        keys = [(experiment.number, user) for user in named[start : start + MANY]]
        await transaction.withdraw(client, _of_entered(await transaction.assignments(client, keys)))


async def of_overridden(stores: Stores, client: str, shown: Sequence[tuple[Experiment, str]]) -> None:
    """Those of (experiment, user) whom an override is shown to and who have entered before; each is looked for once."""
    asked = [(each, user) for each, user in shown if stores.cache.remembered(client, LEFT_OUT, (user, each.id)) is None]
    if not asked:
        return
    async with stores.control.reading(client) as transaction:
        found = await transaction.assignments(client, [(each.number, user) for each, user in asked])
    gone = _of_entered(found)
    if not gone:
        return
    async with stores.control.transaction(client) as transaction:
        await transaction.withdraw(client, gone)
    stores.relay.wake()
    ids = {each.number: each.id for each, _ in asked}
    for withdrawal in gone:
        stores.cache.put(client, LEFT_OUT, (withdrawal.user_id, ids[withdrawal.experiment]), value=True)


def _of_entered(found: Sequence[Assignment | None]) -> list[Withdrawal]:
    """What leaves out those who have entered; who was only given a variant ahead of time is in no result, and may enter later."""
    entered = [kept for kept in found if kept is not None and kept.exposed_at is not None]
    return [Withdrawal(kept.experiment, kept.user_id, OVERRIDE) for kept in entered]
