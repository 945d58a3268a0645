"""Whether a result can be trusted: sample ratio, loss of events, users who are left out, late and repeated events, and what a
reader must know."""

from collections.abc import Sequence

from upshot import statistics
from upshot.aggregation import Aggregates
from upshot.arms import Arms
from upshot.events import CROSSOVER, IDENTITY_CONFLICT, OVERRIDE
from upshot.metrics import Metric
from upshot.report import (
    Caution,
    Comparison,
    EventLossHealth,
    Health,
    SampleRatioHealth,
)

SUSPICIOUS = 0.01
TWYMAN = 0.5
LOSSY = 0.01


def health(
    arms: Arms,
    aggregates: Aggregates,
    ratio: SampleRatioHealth,
    loss: EventLossHealth | None,
    comparisons: Sequence[Comparison],
    metrics: Sequence[Metric],
) -> Health:
    """Whether a result can be trusted."""

    def out(reason: str) -> int:
        return aggregates.withdrawn.get(reason, 0)

    rates = [part.rate or 0.0 for part in loss.variants.values()] if loss else []
    warnings = [
        Caution(code, message)
        for code, message, applies in (
            ("sample_ratio_mismatch", "Users did not arrive in the planned shares.", ratio.ok is False),
            (
                "sample_ratio_suspicious",
                "The shares of users are unusual, though not yet beyond chance.",
                ratio.ok is True and (ratio.p_value or 0) < SUSPICIOUS,
            ),
            (
                "event_loss_differs",
                "More events are lost in one variant than in another: its numbers are too low.",
                loss is not None and not loss.ok,
            ),
            ("event_loss", "More than 1 % of the events of a variant are lost.", max(rates, default=0.0) > LOSSY),
            ("no_users", "No user has been assigned yet.", not any(ratio.observed.values())),
            (
                "no_events",
                "No event has counted yet.",
                any(ratio.observed.values()) and not aggregates.event_counts,
            ),
            ("crossovers", "Some users were given more than one variant; they are left out.", out(CROSSOVER) > 0),
            (
                "identity_conflicts",
                "Some users had another variant before they signed in; they are left out.",
                out(IDENTITY_CONFLICT) > 0,
            ),
            ("overrides", "Some users were given a variant by hand; they are left out.", out(OVERRIDE) > 0),
            (
                "late_events",
                "Some events came more than a week after they happened.",
                aggregates.late_events > 0,
            ),
            (
                "event_conflicts",
                "Some event ids came again with another content; the first one counts.",
                aggregates.conflicts > 0,
            ),
            (
                "several_phases",
                "The allocation was changed; variants are compared within each phase.",
                len(arms.phases) > 1,
            ),
            (
                "plan_changed",
                "The plan was changed after the start; a rule that is chosen after seeing the data keeps no promise.",
                bool(arms.experiment.plan.changes),
            ),
            (
                "large_lift",
                "A lift above 50 % is more often a fault in the data than a success; check it.",
                any(abs(c.relative_lift or 0) > TWYMAN and c.significant for c in comparisons),
            ),
        )
        if applies
    ]
    return Health(
        sample_ratio=ratio,
        crossovers=out(CROSSOVER) + out(IDENTITY_CONFLICT),
        late_events=aggregates.late_events,
        duplicates=aggregates.duplicates,
        conflicts=aggregates.conflicts,
        warnings=warnings + _skewed(arms, metrics),
        event_loss=loss,
        identity_conflicts=out(IDENTITY_CONFLICT),
        withdrawn=dict(sorted(aggregates.withdrawn.items())),
    )


def _skewed(arms: Arms, metrics: Sequence[Metric]) -> list[Caution]:
    """At most one caution: of the mean that has the least of the users that the skewness of its values wants."""
    least, message = 1.0, None
    for metric in metrics:
        for variant in arms.experiment.variants:
            third = arms.third_moments(variant, metric)
            if third is None or third.skewness is None:
                continue
            users, wanted = third.moments.n, statistics.users_for_skewness(third.skewness)
            if users < wanted * least:
                least = users / wanted
                message = (
                    f"{metric.key} is skewed: its mean wants {wanted:,} users in {variant.name}, which has {users:,}."
                    " Winsorising, more users or a split nearer to half helps."
                )
    return [] if message is None else [Caution("skewed_values", message)]


def distrust(ratio: SampleRatioHealth, loss: EventLossHealth | None) -> str | None:
    """The word for why nothing may be said of comparisons, if so."""
    if ratio.ok is False:
        return "srm_failed"
    return "event_loss" if loss is not None and not loss.ok else None


def sample_ratio(arms: Arms) -> SampleRatioHealth:
    """Observed users against those expected from the integer weights of each phase.

    A single look is tested by chi-squared; what blocks a result is the test that holds at every look.
    """
    variants = arms.experiment.variants
    weights = {phase.number: phase.weights for phase in arms.experiment.phases}
    expected = dict.fromkeys((variant.position for variant in variants), 0.0)
    for phase in arms.phases:
        shares = weights.get(phase, {})
        total = sum(shares.values())
        arrived = sum(arms.users(variant, phase) for variant in variants)
        for variant in variants:
            expected[variant.position] += arrived * shares.get(variant.position, 0) / total if total else 0
    observed = [arms.users(variant) for variant in variants]
    found = statistics.sample_ratio(observed, list(expected.values()))
    watched = statistics.sequential_sample_ratio(observed, list(expected.values()))
    return SampleRatioHealth(
        p_value=found.p_value,
        ok=None if watched.p_value is None else watched.p_value >= statistics.ALERT,
        status=found.status,
        expected={variant.name: expected[variant.position] for variant in variants},
        observed=dict(zip((variant.name for variant in variants), observed, strict=True)),
        sequential_p_value=watched.p_value,
    )
