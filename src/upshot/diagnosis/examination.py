"""From facts to a diagnosis: the numbers, and what the rules find in them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

from upshot.diagnosis import findings
from upshot.diagnosis.facts import Facts
from upshot.diagnosis.findings import AHEAD, Case
from upshot.diagnosis.model import Counts, Diagnosis, Last, Severity, Skew
from upshot.diagnosis.names import awaited
from upshot.events import SECOND


def diagnose(facts: Facts) -> Diagnosis:
    """What is wrong, the worst first, and the numbers."""
    joined, names = facts.joined, awaited(facts.metrics, facts.received)
    skews = sorted(arrival.skew for arrival in joined.arrivals if arrival.skew is not None)
    counts = Counts(
        assigned_users=facts.assigned.users,
        exposed_users=joined.exposed_users,
        joined_users=joined.joined_users,
        join_rate=joined.joined_users / joined.exposed_users if joined.exposed_users else None,
        events_before_exposure=joined.events_before,
        users_before_exposure=joined.users_before,
        events_of_unknown_users=joined.unknown_events,
        unknown_users=joined.unknown_users,
        duplicates=facts.health.duplicates,
        late_events=facts.health.late_events,
        events_ahead_of_clock=sum(
            arrival.clamped or (arrival.skew is not None and arrival.skew > AHEAD) for arrival in joined.arrivals
        ),
    )
    exposed = None if joined.last_exposure is None else datetime.fromtimestamp(joined.last_exposure / SECOND, UTC)
    last = Last(facts.assigned.last_at, exposed, max((part.last_at for part in facts.received), default=None))
    case = Case(facts, names, counts, last)
    found = list(chain.from_iterable(rule(case) for rule in findings.RULES))
    ordered = sorted(found, key=lambda finding: list(Severity).index(finding.severity)) or [findings.all_well(case)]
    skew = Skew(*(_quantile(skews, share) / SECOND for share in (0.5, 0.99))) if skews else None
    return Diagnosis(facts.experiment, facts.now, ordered, last, counts, names, facts.received, skew)


def _quantile(ordered: Sequence[int], share: float) -> int:
    """The least value that this share of the values is not above."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]
