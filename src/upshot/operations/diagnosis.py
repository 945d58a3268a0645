"""Find out why an experiment has the data that it has: gather what the stores say, and let the core judge it."""

from datetime import UTC, datetime, timedelta

from upshot import diagnosis, metrics
from upshot.diagnosis import Diagnosis, Facts, Received
from upshot.events import SECOND, micros
from upshot.operations import Stores, events, results
from upshot.operations import experiments as experiment_operations
from upshot.operations import metrics as metric_operations
from upshot.operations.results import Asked

COUNTING_SECONDS = 25.0  # a million assignments take one at most


async def diagnose(stores: Stores, client: str, reference: str) -> Diagnosis:
    """What is wrong with the data of an experiment, as of everything that was acknowledged before.

    Duplicates, late events, users who are left out and the sample ratio are those of the result.

    Raises:
        NotFound: there is no such experiment.
        TimedOut: the event store took too long.
    """
    result = await results.report(stores, client, reference, Asked())
    now = stores.clock.now()
    experiment = await experiment_operations.browse(stores, client, reference)
    async with stores.control.browsing(client, COUNTING_SECONDS) as transaction:
        assigned = await transaction.assigned(client, experiment.number)
    definitions = await metric_operations.definitions_for(stores, client, experiment, ())
    waiting = metrics.of_experiment(experiment, definitions)
    sources = [source for metric in waiting for source in metric.sources]
    names = sorted({name for source in sources for name in source.event_types})
    everything = any(not source.event_types for source in sources)
    start = experiment.started_at or now
    end = experiment.ended_at or now + timedelta.resolution
    joined = await stores.events.diagnose(
        client, experiment.number, () if everything else names, micros(start), micros(end)
    )
    received = [
        Received(seen.event_type, seen.events, *(_moment(at) for at in (seen.first_at, seen.last_at)))
        for seen in await events.types_seen(stores, client)
    ]
    complete_to = result.window.watermark
    facts = Facts(experiment, now, waiting, received, assigned, joined, result.health, complete_to)
    return diagnosis.diagnose(facts)


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / SECOND, UTC)
