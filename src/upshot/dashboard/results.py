"""What the pages of a result show, made from the report: one context for each template. Numbers come from the report only."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from upshot.dashboard import charts, figures
from upshot.dashboard.charts import Line, Scale
from upshot.dashboard.definitions import in_words
from upshot.dashboard.verdicts import Judged, Method, headline, judged
from upshot.experiments import Experiment
from upshot.metrics import Metric
from upshot.metrics.model import SHARES
from upshot.report import Comparison, Report, VariantReport
from upshot.statistics import Interval, normal_critical_value

GRAVE = frozenset({"sample_ratio_mismatch", "event_loss_differs"})
"""Warnings for which no number of a result can be trusted."""

_SERIES = 3  # metrics that are drawn over time; the others are in the export


def lift(found: Report, method: Method) -> dict[str, Any]:
    """The lift of the leading variant in the primary metric, for one row of a list."""
    primary = [comparison for comparison in found.comparisons if comparison.role == "primary"]
    seen = [judged(each, method, 1 - found.confidence_level) for each in primary if each.relative_lift is not None]
    best = max(seen, key=lambda each: (each.comparison.relative_lift or 0) * _sign(each.comparison), default=None)
    scale = charts.lift_scale([best.interval if best else None], [best.comparison.relative_lift if best else None])
    picture = best and charts.forest_row(scale, best.comparison.relative_lift, best.interval, best.tone)
    return {
        "judged": best,
        "picture": picture,
        "users": found.summary.total_users,
        "warnings": [caution.message for caution in found.health.warnings],
    }


def answer(found: Report, experiment: Experiment, metrics: Sequence[Metric], method: Method) -> dict[str, Any]:
    """The whole page of a result but for what is loaded later."""
    alpha = 1 - found.confidence_level
    seen = [judged(comparison, method, alpha) for comparison in found.comparisons]
    scale = charts.lift_scale([each.interval for each in seen], [each.comparison.relative_lift for each in seen])
    cautions = found.health.warnings
    keys = list(found.variants[0].metrics)
    return {
        "found": found,
        "experiment": experiment,
        "experiment_days": found.experiment.days_running,
        "method": method,
        "headline": headline(found),
        "grave": [caution for caution in cautions if caution.code in GRAVE],
        "cautions": [caution for caution in cautions if caution.code not in GRAVE],
        "control": experiment.control.name,
        "plan_note": _plan_note(found, method),
        "rows": _groups(found, seen, scale, metrics) if found.summary.total_users else [],
        "axis": charts.forest_axis(scale),
        "metrics": keys,
        "split": charts.shares([(variant.name, variant.share or 0.0) for variant in found.variants]),
        "ratio": _ratio(found),
        "funnels": _funnels(found, keys),
        **_beliefs(seen, method, alpha),
    }


def over_time(found: Report, experiment: Experiment, period: str) -> dict[str, Any]:
    """Lifts as they stood at the end of each period, with their bands, and the values of each period that is over."""
    names = [variant.name for variant in experiment.variants]
    kinds = {metric: value.kind for variant in found.variants for metric, value in variant.metrics.items()}
    primary = next((c.metric for c in found.comparisons if c.role == "primary"), next(iter(kinds), None))
    cumulative = []
    points = [point for point in found.cumulative or [] if point.metric == primary]
    if points:
        lines = [
            Line(name, place, [(p.period, p.relative_lift, *_ends(p.relative_interval)) for p in points if p.variant == name])
            for place, name in enumerate(names)
            if any(point.variant == name for point in points)
        ]  # fmt: skip
        picture = charts.over_time(lines, relative=True, label=f"Lift in {primary} over time")
        cumulative.append({"metric": primary, "lines": lines, "points": points, "picture": picture})
    series = []
    length = timedelta(hours=1) if period == "hour" else timedelta(days=1)
    complete = found.window.watermark if found.experiment.ended_at is None else found.window.end + length
    for metric in list(kinds)[:_SERIES]:
        own = [point for point in found.time_series if point.metric == metric and point.period + length <= complete]
        share = kinds[metric] in SHARES
        lines = [
            Line(name, place, [(p.period, p.value, None, None) for p in own if p.variant == name])
            for place, name in enumerate(names)
        ]
        picture = charts.over_time(lines, relative=share, label=f"{metric} per {period}", zero=False)
        series.append({"metric": metric, "kind": kinds[metric], "lines": lines, "points": own, "picture": picture})
    return {
        "cumulative": cumulative,
        "series": series if found.time_series else [],
        "control": experiment.control.name,
        "period": period,
    }


def segments(found: Report) -> dict[str, Any]:
    """The primary metric in each segment of each attribute."""
    differing = {each.attribute: each for each in found.segment_differences or [] if each.differs}
    groups = []
    for attribute in dict.fromkeys(segment.attribute for segment in found.segments):
        own = [segment for segment in found.segments if segment.attribute == attribute]
        compared = [(segment, c) for segment in own for c in segment.comparisons if c.role == "primary"]
        scale = charts.lift_scale([c.relative_interval for _, c in compared], [c.relative_lift for _, c in compared])
        rows = [
            {
                "value": "(none)" if segment.value is None else segment.value,
                "users": segment.users,
                "comparison": c,
                "tone": _segment_tone(c),
                "picture": charts.forest_row(scale, c.relative_lift, c.relative_interval, _segment_tone(c)),
            }
            for segment, c in compared
        ]
        difference = differing.get(attribute)
        groups.append(
            {
                "attribute": attribute,
                "rows": rows,
                "axis": charts.forest_axis(scale),
                "differs": difference is not None,
                "p_value": difference.adjusted_p_value if difference else None,
            }
        )
    primary = next((c.metric for segment in found.segments for c in segment.comparisons if c.role == "primary"), "")
    return {"groups": groups, "metric": primary}


def _groups(found: Report, seen: Sequence[Judged], scale: Scale, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    groups = []
    definitions = {metric.key: in_words(metric) for metric in metrics}
    by_name = {variant.name: variant for variant in found.variants}
    for place, metric in enumerate(dict.fromkeys(each.comparison.metric for each in seen)):
        own = [each for each in seen if each.comparison.metric == metric]
        groups.append(
            {
                "id": place,
                "metric": metric,
                "role": own[0].comparison.role,
                "kind": found.variants[0].metrics[metric].kind,
                "about": definitions.get(metric, ""),
                "parts": [(variant.name, variant.metrics[metric]) for variant in found.variants],
                "rows": [
                    {
                        "id": f"{place}-{number}",
                        "judged": each,
                        "value": by_name[each.comparison.variant].metrics[metric].value,
                        "picture": charts.forest_row(scale, each.comparison.relative_lift, each.interval, each.tone),
                        "numbers": _numbers(each.comparison),
                    }
                    for number, each in enumerate(own)
                ],
            }
        )
    return groups


def _numbers(found: Comparison) -> list[tuple[str, str]]:
    """Every number of a comparison, under its name."""
    shown: list[tuple[str, str]] = [
        ("Lift", figures.percent(found.relative_lift, signed=True)),
        ("Its interval, fixed horizon", charts.bounds(found.relative_interval)),
        ("Its interval, always valid", charts.bounds(found.always_valid_relative_interval)),
        ("Its interval, credible", charts.bounds(found.credible_relative_interval)),
        ("Absolute difference", figures.number(found.absolute_difference)),
        ("Standard error", figures.number(found.standard_error)),
        ("Test", figures.words(found.method)),
        ("Statistic", figures.number(found.statistic)),
        ("p-value, fixed horizon", figures.p_value(found.p_value)),
        ("p-value, corrected", figures.p_value(found.adjusted_p_value)),
        ("p-value, always valid", figures.p_value(found.always_valid_p_value)),
        ("Chance to beat control", figures.percent(found.chance_to_beat_control)),
        ("Expected loss per user, if chosen", figures.number(found.expected_loss)),
        ("Minimum detectable effect", figures.number(found.minimum_detectable_effect)),
    ]
    for covariate in found.adjusted or ():
        cut = figures.percent(covariate.variance_reduction)
        shown.append((f"Variance taken out by {covariate.covariate}", cut))
    return [(term, figure) for term, figure in shown if figure != figures.NOTHING]


def _plan_note(found: Report, method: Method) -> str:
    plan = found.plan
    if plan is None or plan.stopping == method.name:
        return ""
    if plan.stopping == "group_sequential" and method.name == "fixed":
        return "The verdict rests on the boundary of the last planned look."
    return f"The plan of this experiment is {figures.words(plan.stopping)}; the answer above rests on that."


def _ratio(found: Report) -> str:
    ratio = found.health.sample_ratio
    if ratio.ok is None:
        return "Whether the users arrived in the planned shares cannot be told yet."
    parts = ", ".join(
        f"{name} {figures.count(ratio.observed[name])} of {figures.count(expected)} expected"
        for name, expected in ratio.expected.items()
    )
    word = "arrived in the planned shares" if ratio.ok else "did NOT arrive in the planned shares"
    return f"The users {word} (p {figures.p_value(ratio.sequential_p_value)} at any look): {parts}."


def _funnels(found: Report, metrics: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"metric": metric, "variants": [_funnel(variant, metric) for variant in found.variants]}
        for metric in metrics
        if any(variant.metrics[metric].steps for variant in found.variants)
    ]


def _funnel(variant: VariantReport, metric: str) -> dict[str, Any]:
    part = variant.metrics[metric]
    steps = [("exposed", float(part.sample_size))]
    steps += [(f"step {place}", float(users)) for place, users in enumerate(part.steps or [], 1)]
    picture = charts.bars(steps, label=f"Funnel {metric}, {variant.name}", style=0 if variant.is_control else 1)
    return {"name": variant.name, "picture": picture}


def _beliefs(seen: Sequence[Judged], method: Method, alpha: float) -> dict[str, Any]:
    """How plausible each lift of the primary metric is, where the method is Bayesian."""
    primary = [each for each in seen if each.comparison.role == "primary" and method.name == "bayesian"]
    shown = []
    scale = charts.lift_scale([each.interval for each in primary], [each.comparison.relative_lift for each in primary])
    for each in primary:
        mean, interval = each.comparison.relative_lift, each.interval
        if mean is None or interval is None or interval.lower is None or interval.upper is None:
            continue
        deviation = (interval.upper - interval.lower) / (2 * normal_critical_value(alpha))
        if deviation > 0:
            text = (
                f"{each.sure}; expected loss if it is chosen {figures.number(each.comparison.expected_loss)} per user"
            )
            picture = charts.belief(scale, mean, deviation)
            shown.append({"variant": each.comparison.variant, "picture": picture, "text": text})
    return {"beliefs": shown, "beliefs_of": primary[0].comparison.metric if primary else ""}


def _segment_tone(comparison: Comparison) -> str:
    if not comparison.significant or comparison.improves is None:
        return "unclear"
    return "better" if comparison.improves else "worse"


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.lower, interval.upper)


def _sign(comparison: Comparison) -> int:
    return -1 if comparison.direction == "decrease" else 1
