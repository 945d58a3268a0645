"""A result in words: what to do, how sure it is, and which way of judging answers which question."""

from dataclasses import dataclass

from upshot.dashboard import figures
from upshot.report import Comparison, Report
from upshot.statistics import Interval


@dataclass(frozen=True, slots=True)
class Method:
    """A way of judging, and the one question that it answers."""

    name: str
    title: str
    answers: str


METHODS = (
    Method(
        "always_valid",
        "Always valid",
        "Holds however often you look: you may decide at any moment at which an interval leaves zero.",
    ),
    Method(
        "fixed",
        "Fixed horizon",
        "Holds once, at the planned end: who looks earlier and stops when it is favourable is wrong more often than stated.",
    ),
    Method(
        "bayesian",
        "Bayesian",
        "Says what to believe now: the chance that a variant is better than control, and what choosing it would lose if not.",
    ),
)

_HEADLINES = {
    "ship": ("Ship {variant}", "better", "✓"),
    "keep_running": ("Keep running", "unclear", "…"),
    "stop_loss": ("Stop: nothing is better than control", "worse", "✕"),
    "stop_harm": ("Stop: it does harm", "worse", "✕"),
    "stop_futile": ("Stop: no effect that is worth having", "unclear", "■"),
    "inconclusive": ("No answer", "unclear", "?"),
    "do_not_trust": ("Do not trust this result", "worse", "!"),
}


DISTRUST = {"srm_failed": "the sample ratio is off", "event_loss": "events are lost unevenly"}
"""Reasons for which nothing may be said of a comparison, in words."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The answer first. `tone` is better, worse or unclear, `sign` says the same without colour."""

    title: str
    tone: str
    sign: str
    reason: str
    more: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """One comparison as a method sees it: the interval of the lift, how sure, and the verdict. `tone` as of a headline."""

    comparison: Comparison
    interval: Interval | None
    sure: str
    verdict: str
    tone: str


def headline(found: Report) -> Headline:
    """What to do, in words."""
    summary = found.summary
    title, tone, sign = _HEADLINES[summary.recommendation]
    if summary.recommendation == "keep_running" and summary.decide_at is not None:
        title = f"Wait until {figures.day(summary.decide_at)}"
    best = next((c.variant for c in found.comparisons if c.role == "primary" and c.significant and c.improves), None)
    return Headline(
        title.format(variant=best or summary.leader or "the leader"), tone, sign, summary.reason, _more(found)
    )


def _more(found: Report) -> tuple[str, ...]:
    summary, said = found.summary, []
    if summary.users_needed and summary.recommendation == "keep_running":
        days = "" if summary.days_needed is None else f", about {figures.count(summary.days_needed)} days"
        said.append(f"{figures.count(summary.users_needed)} more users are needed{days}.")
    cost = summary.cost_of_waiting
    if cost is not None and summary.recommendation in {"keep_running", "ship"}:
        said.append(
            f"If the difference is real, a day of waiting costs {figures.number(cost.per_day)} in {cost.metric}, "
            f"over {figures.count(cost.users_per_day)} users a day."
        )
    return tuple(said)


def method_of(found: Report, wanted: str | None) -> Method:
    """The way of judging that is asked for, or else that of the plan."""
    planned = "always_valid" if found.plan is None or found.plan.stopping == "always_valid" else "fixed"
    names = {method.name: method for method in METHODS}
    return names.get(wanted or "", names[planned])


def judged(comparison: Comparison, method: Method, alpha: float) -> Judged:
    """A comparison as the method sees it; where the data cannot be trusted, nothing is better or worse by any."""
    see = _believed if method.name == "bayesian" else _tested
    interval, sure, tone = see(comparison, method, alpha)
    tone = "unclear" if comparison.reason in DISTRUST else tone
    return Judged(comparison, interval, sure, _verdict(comparison, tone), tone)


def _believed(comparison: Comparison, _method: Method, alpha: float) -> tuple[Interval | None, str, str]:
    chance = comparison.chance_to_beat_control
    if chance is None:
        return comparison.credible_relative_interval, figures.NOTHING, "unclear"
    tone = _tone(better=chance >= 1 - alpha / 2, worse=chance <= alpha / 2)
    return comparison.credible_relative_interval, f"{figures.percent(chance)} chance to be better", tone


def _tested(comparison: Comparison, method: Method, alpha: float) -> tuple[Interval | None, str, str]:
    if method.name == "always_valid":
        interval, p_value = comparison.always_valid_relative_interval, comparison.always_valid_p_value
    else:
        interval = comparison.relative_interval
        p_value = comparison.p_value if comparison.adjusted_p_value is None else comparison.adjusted_p_value
    sure = figures.NOTHING if p_value is None else f"p {figures.p_value(p_value)}"
    # What the plan decides is said by the result itself; another method only says what it would say.
    found = comparison.significant if _decides(comparison, method) else p_value is not None and p_value < alpha
    return (
        interval,
        sure,
        _tone(better=bool(found and comparison.improves), worse=bool(found) and comparison.improves is False),
    )


def _decides(comparison: Comparison, method: Method) -> bool:
    """Whether the plan stops by this way of judging; planned looks are looked at with the intervals of one."""
    return comparison.stopping == method.name or (comparison.stopping, method.name) == ("group_sequential", "fixed")


def _tone(*, better: bool, worse: bool) -> str:
    return "better" if better else "worse" if worse else "unclear"


def _verdict(comparison: Comparison, tone: str) -> str:
    if comparison.guardrail is not None:
        return {"harmed": "harmed", "safe": "safe", "inconclusive": "not known to be safe"}[comparison.guardrail]
    if comparison.reason is not None:
        return DISTRUST.get(comparison.reason, figures.words(comparison.reason))
    return {"better": "better", "worse": "worse", "unclear": "cannot be told from chance"}[tone]
