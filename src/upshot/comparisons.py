"""Every variant against control in every metric: the effect, its correction, and the evidence that words rest on.

Which p-value is in force, by the way of stopping (statistics.md 2.17):

    always_valid       the always-valid one, at any time
    group_sequential   significant when the last look's boundary was crossed; otherwise the always-valid one, up to "high"
    fixed              the ordinary one, once the planned size is reached or the experiment has ended; before that none
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from upshot import statistics
from upshot.analysisplan import AnalysisPlan, Stopping
from upshot.arms import Arms
from upshot.effects import detectable, effect_of, guardrail_of, users_of, watchable
from upshot.metrics import Direction, Metric, Role
from upshot.posteriors import Belief, belief, informed
from upshot.report import Adjusted, Comparison, Informed, Look
from upshot.statistics import Effect, Intervals
from upshot.variants import Variant


@dataclass(frozen=True, slots=True)
class Judgement:
    """How comparisons are judged: the metrics' roles, the plan, the error rate, and what the last planned look saw.

    `final` says that the planned size is reached or the experiment has ended; `distrust` why nothing may be said of the data, if
    so. `look` has the look's boundary, and `seen` the statistic of every (variant, metric) there. `whole` says that it is
    about all users, not about a part of them.
    """

    plan: AnalysisPlan
    alpha: float
    roles: Mapping[str, Role] = field(default_factory=dict)
    final: bool = False
    distrust: str | None = None
    look: Look | None = None
    seen: Mapping[tuple[str, str], float] = field(default_factory=dict)
    whole: bool = True

    def role(self, metric: str) -> Role:
        """What a metric is for."""
        return self.roles.get(metric, Role.SECONDARY)

    @property
    def of_parts(self) -> "Judgement":
        """How parts of the data are judged: planned looks are at the whole, so these are always-valid instead."""
        if self.plan.in_force is not Stopping.GROUP_SEQUENTIAL:
            return replace(self, whole=False)
        plan = replace(self.plan, stopping=Stopping.ALWAYS_VALID)
        return replace(self, plan=plan, look=None, seen={}, whole=False)


@dataclass(slots=True)
class Uncorrected:
    """A variant against control in one metric, before other questions are allowed for: all but the words.

    `intervals` are those of one look. `watched` is the always-valid p-value, `always` the intervals that reach the `boundary` of
    this look; there are none where that test cannot keep its promise yet. `guardrail` is its verdict and the users it needs.
    """

    variant: Variant
    metric: Metric
    role: Role
    effect: Effect
    intervals: Intervals
    watched: float | None
    boundary: float | None
    always: Intervals
    reason: str | None
    belief: Belief | None
    informed: Informed | None
    guardrail: tuple[str | None, int | None]
    adjusted: list[Adjusted]
    detectable: float | None


_NONE = Intervals(None, None)


class _Words(NamedTuple):
    """What may be said of a comparison now, or why nothing may."""

    significant: bool | None = None
    confidence: str | None = None
    reason: str | None = None


def compare(arms: Arms, metrics: Sequence[Metric], judgement: Judgement) -> list[Comparison]:
    """Every variant against control in every metric, corrected and put into words."""
    return correct(uncorrected(arms, metrics, judgement), judgement, arms.experiment.control.name)


def uncorrected(arms: Arms, metrics: Sequence[Metric], judgement: Judgement) -> list[Uncorrected]:
    """Every variant against control in every metric, without a word."""
    tightest = judgement.plan.tightest_at(len(arms.experiment.variants))
    found = [_uncorrected(arms, v, metric, judgement, tightest) for metric in metrics for v in arms.treatments]
    once = [part for part in found if part.effect.absolute_interval is None]
    watched = [(part.effect, part.boundary) for part in found if part.boundary is not None]
    critical = statistics.normal_critical_value(judgement.alpha)
    searched = iter(statistics.intervals_of([*((part.effect, critical) for part in once), *watched]))
    for part in once:
        part.intervals = next(searched)
    for part in found:
        if part.boundary is not None:
            part.always = next(searched)
    return found


def _uncorrected(arms: Arms, variant: Variant, metric: Metric, judgement: Judgement, tightest: int) -> Uncorrected:
    alpha, role = judgement.alpha, judgement.role(metric.key)
    strata, how = arms.strata(variant, metric)
    effect = effect_of(strata, metric, alpha, adjusted=bool(how))
    watched = boundary = None
    guardrail: tuple[str | None, int | None] = (None, None)
    if effect.statistic is not None and watchable(arms, variant, metric, effect):
        users = users_of(strata)
        watched = statistics.always_valid_p_value(effect.statistic, users, alpha, tightest)
        boundary = statistics.always_valid_critical_value(users, alpha, tightest)
        if role is Role.GUARDRAIL:
            guardrail = guardrail_of(strata, metric, effect, alpha, tightest)
    reason: str | None = effect.lift_status if effect.status == "ok" else effect.status
    if reason == "ok":
        waits = watched is None and judgement.plan.in_force is not Stopping.FIXED
        reason = "too_few" if waits else None
    return Uncorrected(
        variant,
        metric,
        role,
        effect,
        Intervals(effect.absolute_interval, effect.relative_interval),
        watched,
        boundary,
        _NONE,
        reason,
        belief(strata, metric, effect, alpha, exact=judgement.whole),
        informed(metric, effect, alpha, judgement.plan.prior_lift_sd),
        guardrail,
        how,
        detectable(strata, alpha),
    )


def correct(comparisons: Sequence[Uncorrected], judgement: Judgement, baseline: str) -> list[Comparison]:
    """The same comparisons, corrected and put into words.

    Holm over the primary metrics and variants; Benjamini-Hochberg over all secondary ones together; Holm over the variants of
    each guardrail by itself, as every one of them must hold.
    """
    corrected: dict[int, Comparison] = {}
    stopping = judgement.plan.in_force
    families: dict[tuple[Role, str | None], list[int]] = {}
    for place, comparison in enumerate(comparisons):
        own = comparison.metric.key if comparison.role is Role.GUARDRAIL else None
        families.setdefault((comparison.role, own), []).append(place)
    for (role, _), places in families.items():
        secondary = role is Role.SECONDARY
        correction = statistics.benjamini_hochberg if secondary else statistics.holm
        name = None if len(places) == 1 else "benjamini_hochberg" if secondary else "holm"
        fixed = correction([comparisons[place].effect.p_value for place in places])
        watched = correction([comparisons[place].watched for place in places])
        for place, by_fixed, by_watched in zip(places, fixed, watched, strict=True):
            found = comparisons[place]
            words = _words(found, by_fixed, by_watched, judgement, stopping, len(places))
            corrected[place] = _comparison(found, stopping, baseline, by_fixed, name, words)
    return [corrected[place] for place in range(len(comparisons))]


def _comparison(
    found: Uncorrected,
    stopping: Stopping,
    baseline: str,
    adjusted_p_value: float | None,
    correction: str | None,
    words: _Words,
) -> Comparison:
    effect, believed, direction = found.effect, found.belief, found.metric.direction
    difference = effect.absolute_difference
    return Comparison(
        variant_id=found.variant.id,
        variant=found.variant.name,
        baseline=baseline,
        metric=found.metric.key,
        absolute_difference=difference,
        relative_lift=effect.relative_lift,
        interval=found.intervals.absolute,
        relative_interval=found.intervals.relative,
        statistic=effect.statistic,
        p_value=effect.p_value,
        adjusted_p_value=adjusted_p_value,
        always_valid_p_value=found.watched,
        significant=words.significant,
        confidence=words.confidence,
        chance_to_beat_control=believed.chance_to_beat_control if believed else None,
        expected_loss=believed.expected_loss if believed else None,
        minimum_detectable_effect=found.detectable,
        method=effect.method,
        stopping=stopping.value,
        reason=words.reason or found.reason,
        role=found.role.value,
        direction=direction.value,
        improves=(difference > 0) is (direction is Direction.INCREASE) if difference else None,
        correction=correction,
        always_valid_interval=found.always.absolute,
        always_valid_relative_interval=found.always.relative,
        expected_loss_of_control=believed.expected_loss_of_control if believed else None,
        credible_interval=believed.interval if believed else None,
        credible_relative_interval=believed.relative_interval if believed else None,
        prior=believed.prior if believed else None,
        informed=found.informed,
        guardrail=found.guardrail[0],
        guardrail_users=found.guardrail[1],
        adjusted=found.adjusted or None,
        standard_error=effect.standard_error,
        degrees_of_freedom=effect.degrees_of_freedom,
        log10_p_value=effect.log10_p_value,
    )


def _words(
    comparison: Uncorrected,
    by_fixed: float | None,
    by_watched: float | None,
    judgement: Judgement,
    stopping: Stopping,
    family: int,
) -> _Words:
    """What may be said of a comparison now, from its corrected p-values."""
    if judgement.distrust:
        return _Words(reason=judgement.distrust)
    alpha = judgement.alpha
    if stopping is Stopping.FIXED:
        return _said(by_fixed, alpha) if judgement.final else _Words(reason=comparison.reason or "not_final")
    if stopping is Stopping.ALWAYS_VALID:
        return _said(by_watched, alpha)
    crossed = _crossed(comparison, judgement, family)
    if crossed:
        return _Words(significant=True, confidence="significant")
    word = statistics.word(by_watched, alpha)
    return _Words(crossed, "high" if word == "significant" else word)


def _said(p_value: float | None, alpha: float) -> _Words:
    return _Words(None if p_value is None else p_value <= alpha, statistics.word(p_value, alpha))


def _crossed(comparison: Uncorrected, judgement: Judgement, family: int) -> bool | None:
    """Whether the last planned look's statistic crossed its boundary, which several questions share (Bonferroni).

    A skewed mean of few users crosses too often here, too: it needs what the always-valid test needs.
    """
    seen = judgement.seen.get((comparison.variant.name, comparison.metric.key))
    if judgement.look is None or seen is None or comparison.watched is None:
        return None
    critical = statistics.boundaries(
        tuple(judgement.look.fractions), judgement.alpha / family, judgement.plan.spending
    )[-1]
    return abs(seen) >= critical
