"""What to do next, by one table of rules: the first that holds decides. docs/results.md shows the same table.

do_not_trust   the sample ratio is off, the variants lose events differently, or more than 1 % of the users changed variant
stop_harm      a guardrail is harmed in a variant that is compared
ship           the primary metric is significantly better in a variant, whose guardrails are not harmed
stop_loss      every variant is significantly worse than control in the primary metric
stop_futile    the planned size is reached, and every interval lies inside the minimum effect of interest
inconclusive   the planned size is reached or the experiment has ended, and nothing of the above holds
keep_running   otherwise
"""

from collections.abc import Sequence
from dataclasses import dataclass

from upshot.report import Comparison

CROSSOVER_ALARM = 0.01
CROSSOVER_USERS = 10


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rules look at. Comparisons are those of the primary metric and of the guardrails.

    `planned` says whether the planned size is reached, None without one; `minimum_effect` is the smallest lift of interest.
    """

    trustworthy: bool
    distrust: str
    ended: bool
    planned: bool | None
    minimum_effect: float | None
    primary: Sequence[Comparison]
    guardrails: Sequence[Comparison]


@dataclass(frozen=True, slots=True)
class Decision:
    """The recommendation, its reason in plain words, and the comparison that it rests on."""

    recommendation: str
    reason: str
    comparison: Comparison | None


def decide(evidence: Evidence) -> Decision:
    """Apply the table."""
    leading = _leading(evidence.primary)
    if not evidence.trustworthy:
        return Decision("do_not_trust", evidence.distrust, leading)
    harmed = [c for c in evidence.guardrails if c.guardrail == "harmed" or (c.significant and c.improves is False)]
    if harmed:
        first = harmed[0]
        return Decision("stop_harm", f"{first.variant} makes the guardrail {first.metric} worse.", first)
    winners = [c for c in evidence.primary if c.significant and c.improves]
    if winners:
        best = _leading(winners)
        assert best is not None  # noqa: S101 - there is at least one winner
        return Decision("ship", f"{best.variant} is better than {best.baseline} in {best.metric}{_lift(best)}.", best)
    if evidence.primary and all(c.significant and c.improves is False for c in evidence.primary):
        worst = "Every variant is" if len(evidence.primary) > 1 else f"{evidence.primary[0].variant} is"
        return Decision("stop_loss", f"{worst} worse than {evidence.primary[0].baseline}.", leading)
    return _without_winner(evidence, leading)


def _without_winner(evidence: Evidence, leading: Comparison | None) -> Decision:
    """When nothing is significant: whether to go on."""
    if evidence.planned and evidence.minimum_effect and _is_small(evidence.primary, evidence.minimum_effect):
        reason = f"The planned size is reached, and a lift of {evidence.minimum_effect:.1%} or more can be ruled out."
        return Decision("stop_futile", reason, leading)
    if evidence.ended:
        return Decision("inconclusive", "The experiment ended without telling the variants apart.", leading)
    if evidence.planned:
        return Decision("inconclusive", "The planned size is reached without telling the variants apart.", leading)
    if leading is None or leading.p_value is None:
        return Decision("keep_running", "There is not enough data yet to compare the variants.", leading)
    if evidence.planned is False:
        return Decision("keep_running", "The planned size is not reached yet.", leading)
    return Decision("keep_running", "The difference cannot be told from chance yet.", leading)


def _is_small(comparisons: Sequence[Comparison], effect: float) -> bool:
    """Whether every lift lies inside ± the effect."""
    intervals = [c.relative_interval for c in comparisons]
    return bool(intervals) and all(
        i is not None and i.lower is not None and i.upper is not None and -effect < i.lower and i.upper < effect
        for i in intervals
    )


def _leading(comparisons: Sequence[Comparison]) -> Comparison | None:
    """The comparison with the largest difference in favour of the variant."""
    known = [c for c in comparisons if c.absolute_difference is not None]
    return max(known, key=lambda c: abs(c.absolute_difference or 0.0) * (1 if c.improves else -1), default=None)


def _lift(comparison: Comparison) -> str:
    return "" if comparison.relative_lift is None else f" by {comparison.relative_lift:+.1%}"
