"""Whether covariates are worth reading: a sample of the users tells how much variance they take out.

Reading what users did before their exposure doubles what a result reads. Of many users a sample says well enough where that is
for nothing; results adjust where it takes out at least `arms.HELPS` of the variance, and read it from half of that on.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from upshot import statistics
from upshot.aggregation import Cell, Measured
from upshot.arms import HELPS
from upshot.eventstore.sql import sampling
from upshot.eventstore.sql.question import Question
from upshot.metrics import Metric
from upshot.statistics import Comoments

Read = Callable[[Question], Mapping[tuple[Cell, str], Measured]]


def worthwhile(question: Question, users: int, read: Read) -> Question:
    """The question without the covariates that a sample of its exposed `users` finds to be idle; as it is of fewer users than a
    sample needs. `read` answers a question about moments."""
    plan = question.plan
    adjusting = tuple(metric for metric in plan.metrics if plan.adjusts(metric))
    step = sampling.one_in(users)
    if step == 1 or not adjusting or plan.is_broken_down:
        return question
    sample = replace(question, plan=replace(plan, metrics=adjusting, one_in=step))
    found = read(sample)
    idle = {metric.key for metric in adjusting if _reduction(metric, found, users // step) < HELPS / 2}
    return replace(question, plan=replace(plan, unadjusted=plan.unadjusted | idle))


def _reduction(metric: Metric, found: Mapping[tuple[Cell, str], Measured], users: int) -> float:
    """The share of variance that a metric's covariates take out in all arms together, of so many users."""
    parts = [part for (_, key), part in found.items() if key == metric.key and part.joint is not None]
    if not parts:
        return 0.0
    joint = sum((part.joint for part in parts if part.joint is not None), Comoments.empty(len(parts[0].silent)))
    silent = parts[0].silent
    zeros = ((0.0,) * len(silent),) * len(silent)
    everybody = joint + Comoments(max(users - joint.n, 0), silent, zeros)
    adjust = statistics.adjust_ratio if metric.is_ratio else statistics.adjust
    return adjust([everybody])[1].variance_reduction or 0.0
