"""Thompson sampling: give more of the new users to the variants that are probably the best in the primary metric.

Every update opens a new phase. It binds new users only, and results compare variants within each phase, as after any change of
the allocation: so they stay honest while the shares follow the data.
"""

from decimal import Decimal

from upshot import metrics, statistics
from upshot.aggregation import AggregationPlan
from upshot.analysisplan import Allocation
from upshot.arms import Arms
from upshot.errors import Conflict
from upshot.events import micros
from upshot.experiments import Experiment
from upshot.operations import Stores
from upshot.operations import experiments as experiment_operations
from upshot.operations import metrics as metric_operations
from upshot.variants import VariantDraft


async def reallocate(stores: Stores, client: str, experiment: Experiment) -> bool:
    """Move the shares of an experiment that asks for it; False where they stay: too few users yet, or nothing to move."""
    if experiment.plan.allocation is not Allocation.THOMPSON:
        return False
    shares = await _shares(stores, client, experiment)
    if shares is None:
        return False
    weights = statistics.integer_weights(shares)
    if weights == [variant.weight for variant in experiment.variants]:
        return False
    drafts = [VariantDraft(v.name, weight=Decimal(w)) for v, w in zip(experiment.variants, weights, strict=True)]
    try:
        await experiment_operations.change(stores, client, experiment.id, {"variants": drafts}, experiment.version)
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
    chances = [arms.chance_to_be_best(variant, primary) for variant in experiment.variants]
    known = [chance for chance in chances if chance is not None]
    if len(known) < len(chances):
        return None
    return statistics.next_allocation(known, [arms.users(variant) for variant in experiment.variants])
