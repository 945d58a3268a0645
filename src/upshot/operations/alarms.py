"""Watch running experiments for those who asked to be told: a guardrail that is harmed, users who do not arrive as planned.

Both rest on bounds that hold at every look, so that looking every quarter of an hour raises no false alarms beyond the plan's;
each is raised once.
"""

import logging
from datetime import datetime

from upshot import webhooks
from upshot.errors import UpshotError
from upshot.experiments import Experiment
from upshot.operations import Stores, results
from upshot.operations import webhooks as webhook_operations
from upshot.report import Comparison, Report
from upshot.webhooks import Breach, Mismatch, Notice, Occasion

WATCHED = frozenset({Occasion.BREACHED, Occasion.MISMATCHED})

log = logging.getLogger(__name__)


async def watch(stores: Stores) -> int:
    """Look at every running experiment of clients who want to know; returns how many alarms were raised."""
    listening: dict[str, bool] = {}
    raised = 0
    for client, experiment in await stores.control.running():
        if client not in listening:
            listening[client] = await _listens(stores, client)
        if listening[client]:
            try:
                raised += await _look(stores, client, experiment)
            except UpshotError as error:  # one that cannot be measured must not keep the others from being watched
                log.warning("an experiment could not be watched: %s", error)
    return raised


async def _listens(stores: Stores, client: str) -> bool:
    async with stores.control.reading(client) as view:
        found = await view.hooks.webhooks(client)
    return any(webhook.disabled_at is None and webhook.occasions & WATCHED for webhook in found)


async def _look(stores: Stores, client: str, experiment: Experiment) -> int:
    report = await results.report(stores, client, experiment.id, results.Asked())
    now, raised = stores.clock.now(), 0
    for subject, notice in [*_breaches(report, experiment, now), *_mismatches(report, experiment, now)]:
        async with stores.control.transaction(client) as transaction:
            if await transaction.hooks.raise_alarm(client, experiment.id, notice.occasion, subject, now):
                await webhook_operations.tell(stores, transaction, client, notice, now)
                raised += 1
    return raised


def _breaches(report: Report, experiment: Experiment, now: datetime) -> list[tuple[str, Notice]]:
    """The guardrails that are shown to be harmed, each once per variant."""
    return [
        (
            f"{found.variant_id} {found.metric}",
            webhooks.breached(experiment, _breach(found, report.confidence_level), now),
        )
        for found in report.comparisons
        if found.guardrail == "harmed"
    ]


def _breach(found: Comparison, confidence_level: float) -> Breach:
    interval = found.always_valid_relative_interval or found.relative_interval
    bounds = (interval.lower, interval.upper) if interval else (None, None)
    return Breach(
        found.metric, found.variant, found.baseline, found.direction, found.relative_lift, *bounds, confidence_level
    )


def _mismatches(report: Report, experiment: Experiment, now: datetime) -> list[tuple[str, Notice]]:
    """The sample ratio, where it is off by the test that holds at every look, once per phase."""
    ratio = report.health.sample_ratio
    if ratio.ok is not False or ratio.sequential_p_value is None:
        return []
    mismatch = Mismatch(ratio.sequential_p_value, ratio.expected, ratio.observed)
    phase = experiment.phase.number if experiment.phase else 0
    return [(str(phase), webhooks.mismatched(experiment, mismatch, now))]
