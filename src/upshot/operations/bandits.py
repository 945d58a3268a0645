"""Thompson sampling: give more of the new users to the variants that are probably the best in the primary metric.

Every update opens a new phase. It binds new users only, and results compare variants within each phase, as after any change of
the allocation: so they stay honest while the shares follow the data.
"""

from decimal import Decimal

from upshot import metrics, statistics
from upshot.access import system
from upshot.aggregation import AggregationPlan
from upshot.analysisplan import Allocation
from upshot.arms import Arms
from upshot.errors import Conflict
from upshot.events import micros
from upshot.experiments import Experiment
from upshot.operations import Stores
from upshot.operations import experiments as experiment_operations
from upshot.operations import metrics as metric_operations
from upshot.posteriors import chances_to_be_best
from upshot.variants import VariantDraft


async def reallocate(stores: Stores, client: str, experiment: Experiment) -> bool:
    """Move the shares of an experiment that asks for it; False where they stay: too few users yet, or nothing to move."""
    if experiment.plan.allocation is not Allocation.THOMPSON:
        return False
    shares = await _shares(stores, client, experiment)
    if shares is None:
        return False
    weights, now = statistics.integer_weights(shares), [variant.weight for variant in experiment.variants]
    if [weight * sum(now) for weight in weights] == [weight * sum(weights) for weight in now]:
        return False  # the same shares, whatever they were divided by
    drafts = [VariantDraft(v.name, weight=Decimal(w)) for v, w in zip(experiment.variants, weights, strict=True)]
    try:
        await experiment_operations.change(
            stores, system(client, "thompson"), experiment.id, {"variants": drafts}, experiment.version
        )
    except Conflict:
        return False  # somebody has just changed it; the next update sees that
    return True


async def _shares(stores: Stores, client: str, experiment: Experiment) -> list[float] | None:
    """The share of new users that each variant gets next; None while that cannot be said."""
    await stores.relay.run()
    definitions = await metric_operations.definitions_for(stores, client, experiment)
    primary = metrics.of_experiment(experiment, definitions)[0]
    plan = AggregationPlan(experiment.number, (primary,), None, micros(stores.clock.now()))
    arms = Arms(experiment, await stores.events.aggregate(client, plan))
    chances = chances_to_be_best(arms, primary)
    if not chances:
        return None
    variants = experiment.variants
    return statistics.next_allocation([chances[v.position] for v in variants], [arms.users(v) for v in variants])
