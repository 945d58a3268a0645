"""Looking at some of many users, the same ones every time: their keys are hashes, so that any of their bits are a coin."""

from typing import Any

from upshot.aggregation import AggregationPlan
from upshot.eventstore.sql.question import Column

SAMPLED = 50_000
"""As many exposed users, or up to twice as many, are looked at where there are more."""


def one_in(users: int) -> int:
    """Of how many exposed users one is looked at: a power of two, so that a smaller sample is part of the larger one."""
    return 1 << max(0, (users // SAMPLED).bit_length() - 1)


def looked_at(plan: AggregationPlan, columns: Any) -> list[Column]:
    """The condition on the user key of exposures, or of events, that a plan makes; none where it looks at everybody."""
    return [columns.user_key % plan.one_in == 0] if plan.one_in > 1 else []
