"""Give users their variants, and keep them: each is answered as answers.py says, alone, many at once, or everywhere."""

from collections.abc import Sequence

from upshot.assignment import Assignment
from upshot.contexts import Context, check
from upshot.errors import Fault, Invalid
from upshot.experiments import Experiment
from upshot.operations import Stores, answers, identities, snapshots
from upshot.operations import experiments as experiment_operations
from upshot.operations.answers import Assigned, Question
from upshot.operations.copies import ASSIGNMENT, EXPERIMENT
from upshot.variants import Variant

__all__ = ["MANY", "Assigned", "assign", "assign_everywhere", "assign_in", "assign_many", "assigned", "remembered"]

MANY = 1_000


async def assign(stores: Stores, client: str, reference: str, user_id: str, context: Context) -> Assigned:
    """The variant of one user in one experiment; reading it is an exposure. Durable on return, if it says `persisted`.

    Raises:
        NotFound: there is no such experiment.
        Invalid: the user id or the context breaks its rules.
    """
    experiment = await experiment_operations.known(stores, client, reference)
    if _overridden(experiment, user_id, context):
        return await answers.first(stores, client, Question(experiment, user_id, context))
    kept = _kept(stores, client, experiment, user_id)
    if kept is None:
        check([(user_id, context)])
        found = await stores.cache.get(client, ASSIGNMENT, _key(stores, client, experiment, user_id))
        kept = _exposed(found)
    if kept is None:
        return await answers.first(stores, client, Question(experiment, user_id, context))
    experiment = await experiment_operations.with_variants(stores, client, experiment, [kept.variant])
    return answers.assigned_of(experiment, kept, user_id, is_new=False)


def remembered(
    stores: Stores, client: str, reference: str, user_id: str, context: Context
) -> tuple[Experiment, Assignment] | None:
    """An experiment, and the assignment of a user who was exposed in it, where this process has both and takes them for good: the
    same objects as long as nothing changes. None where somebody has to be asked. Another process may have added the variant: then
    the experiment does not have it yet.
    """
    experiment = stores.cache.fresh(client, EXPERIMENT, (reference,))
    if experiment is None or _overridden(experiment, user_id, context):
        return None
    kept = _kept(stores, client, experiment, user_id)
    return None if kept is None else (experiment, kept)


def _kept(stores: Stores, client: str, experiment: Experiment, user_id: str) -> Assignment | None:
    """What this process remembers of a user who was exposed."""
    return _exposed(stores.cache.remembered(client, ASSIGNMENT, _key(stores, client, experiment, user_id)))


def _key(stores: Stores, client: str, experiment: Experiment, user_id: str) -> tuple[str, str]:
    return identities.remembered(stores, client, user_id), experiment.id


def _exposed(kept: Assignment | None) -> Assignment | None:
    return None if kept is None or kept.exposed_at is None else kept


def _overridden(experiment: Experiment, user_id: str, context: Context) -> bool:
    return bool(experiment.overrides) and experiment.decide.overridden(user_id, context) is not None


async def assigned(stores: Stores, client: str, experiment: Experiment, user_id: str) -> Variant | None:
    """The variant that is stored for a user; None where none is. Asks only."""
    user = identities.remembered(stores, client, user_id)
    kept = await stores.cache.get(client, ASSIGNMENT, (user, experiment.id))
    if kept is None:
        async with stores.control.reading(client) as transaction:
            user = (await transaction.identities.users_of(client, [user])).get(user, user)
            kept = (await transaction.assignments(client, [(experiment.number, user)]))[0]
    if kept is None:
        return None
    experiment = await experiment_operations.with_variants(stores, client, experiment, [kept.variant])
    return answers.assigned_of(experiment, kept, user_id, is_new=False).variant


async def assign_many(
    stores: Stores, client: str, reference: str, users: Sequence[tuple[str, Context]]
) -> list[Assigned]:
    """The variants of many users in one experiment, ahead of time: no exposure. At most 1,000 users."""
    if len(users) > MANY:
        raise Invalid.of(Fault("/users", "too_many", f"at most {MANY} users at once"))
    experiment = await experiment_operations.known(stores, client, reference)
    check(users, "/users/{index}")
    questions = [Question(experiment, user_id, context) for user_id, context in users]
    return await answers.several(stores, client, questions, exposed=False)


async def assign_everywhere(stores: Stores, client: str, user_id: str, context: Context) -> list[Assigned]:
    """The variants of one user in all running experiments, ahead of time: no exposure."""
    check([(user_id, context)])
    experiments = [
        experiment for experiment in (await snapshots.known(stores, client)).experiments if experiment.is_running
    ]
    return await assign_in(stores, client, experiments, user_id, context)


async def assign_in(
    stores: Stores, client: str, experiments: Sequence[Experiment], user_id: str, context: Context
) -> list[Assigned]:
    """The variants of one user in several experiments, ahead of time: no exposure."""
    questions = [Question(experiment, user_id, context) for experiment in experiments]
    found: list[Assigned] = []
    for start in range(0, len(questions), MANY):
        found += await answers.several(stores, client, questions[start : start + MANY], exposed=False)
    return found
