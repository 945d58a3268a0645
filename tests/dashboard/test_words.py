"""What pages say: the answer first, the verdict of each way of judging, and what a metric is."""

from dataclasses import replace
from typing import Any

import pytest

from upshot.dashboard.definitions import in_words
from upshot.dashboard.verdicts import METHODS, headline, judged, method_of
from upshot.decision import Decision
from upshot.metrics import define
from upshot.report import Comparison, Summary
from upshot.statistics import Interval

COMPARISON = Comparison(
    variant_id="v", variant="blue", baseline="control", metric="buy", absolute_difference=0.01, relative_lift=0.1,
    interval=Interval(0.002, 0.018), relative_interval=Interval(0.02, 0.18), statistic=2.5, p_value=0.012,
    adjusted_p_value=0.012, always_valid_p_value=0.2, significant=False, confidence="medium", chance_to_beat_control=0.994,
    expected_loss=0.0001, minimum_detectable_effect=0.01, method="score", stopping="always_valid", reason=None,
    role="primary", improves=True, always_valid_relative_interval=Interval(-0.05, 0.25),
    credible_relative_interval=Interval(0.02, 0.18),
)  # fmt: skip
WEEKLY = """The share of users with at least one visit event, within 1d beginning 7d after the exposure; only users whose window \
is over."""
BY_NAME = {method.name: method for method in METHODS}


class Found:
    """As much of a report as a headline reads."""

    def __init__(self, recommendation: str, **summary: Any) -> None:
        fields: dict[str, Any] = dict.fromkeys(Summary.__slots__) | {"total_users": 10, "total_events": 5}
        self.summary = Summary(**fields | {"recommendation": recommendation, "reason": "because"} | summary)
        self.comparisons = [replace(COMPARISON, significant=True)]
        self.plan = None


def test_each_way_of_judging_answers_its_own_question() -> None:
    """The same comparison: not yet for who looks all the time, better for who looked once, likely better for who believes."""
    sequential, fixed, bayesian = (judged(COMPARISON, BY_NAME[name], 0.05) for name in BY_NAME)

    assert (sequential.tone, sequential.interval) == ("unclear", Interval(-0.05, 0.25))
    assert (fixed.tone, fixed.interval) == ("better", Interval(0.02, 0.18))
    assert (bayesian.tone, bayesian.sure) == ("better", "99.4\u00a0% chance to be better")
    assert len({method.answers for method in METHODS}) == 3


def test_the_plan_decides_under_its_own_name() -> None:
    """Where the method is that of the plan, what the result says is shown, not what a p-value would say."""
    decided = replace(COMPARISON, significant=True, always_valid_p_value=0.9)

    assert judged(decided, BY_NAME["always_valid"], 0.05).tone == "better"
    assert judged(replace(decided, improves=False), BY_NAME["always_valid"], 0.05).tone == "worse"


def test_planned_looks_are_decided_by_their_boundary() -> None:
    """A p-value below alpha is not enough at a look; the verdict is that of the result, with the intervals of one look."""
    looked = replace(COMPARISON, stopping="group_sequential", significant=False)

    assert judged(looked, BY_NAME["fixed"], 0.05).tone == "unclear"
    assert judged(replace(looked, significant=True), BY_NAME["fixed"], 0.05).tone == "better"
    assert judged(replace(looked, stopping="always_valid"), BY_NAME["fixed"], 0.05).tone == "better"


@pytest.mark.parametrize("reason", ["srm_failed", "event_loss"])
def test_what_cannot_be_trusted_is_better_by_no_way_of_judging(reason: str) -> None:
    """However small the p-value and however large the chance."""
    distrusted = replace(COMPARISON, reason=reason, significant=None, always_valid_p_value=1e-9)

    for method in METHODS:
        assert judged(COMPARISON, method, 0.05).tone == "better" or method.name == "always_valid"
        assert judged(distrusted, method, 0.05).tone == "unclear"
        assert judged(distrusted, method, 0.05).verdict != "better"


def test_guardrails_and_reasons_are_said() -> None:
    """Harmed, safe, or why there is no verdict."""
    method = BY_NAME["fixed"]

    assert judged(replace(COMPARISON, guardrail="harmed"), method, 0.05).verdict == "harmed"
    assert judged(replace(COMPARISON, guardrail="inconclusive"), method, 0.05).verdict == "not known to be safe"
    assert judged(
        replace(COMPARISON, reason="too_few_users", p_value=None, adjusted_p_value=None), method, 0.05
    ).verdict == ("too few users")


@pytest.mark.parametrize(
    ("recommendation", "title", "tone"),
    [
        ("ship", "Ship blue", "better"),
        ("keep_running", "Keep running", "unclear"),
        ("stop_harm", "Stop: it does harm", "worse"),
        ("do_not_trust", "Do not trust this result", "worse"),
        ("inconclusive", "No answer", "unclear"),
    ],
)
def test_the_answer_first(recommendation: str, title: str, tone: str) -> None:
    """In words, and by a sign beside the colour."""
    found: Any = Found(recommendation)
    said = headline(found)

    assert (said.title, said.tone) == (title, tone)
    assert said.sign


def test_every_recommendation_has_words() -> None:
    """The table of decisions and the headlines know the same words."""
    import upshot.decision as rules

    words = {line.split()[0] for line in (rules.__doc__ or "").splitlines() if "  " in line and "_" in line.split()[0]}
    assert {"do_not_trust", "stop_loss", "stop_futile"} <= words
    for word in words | {"ship", "inconclusive"}:
        found: Any = Found(Decision(word, "because", None).recommendation)
        assert headline(found).title


def test_the_method_of_the_plan_unless_another_is_asked_for() -> None:
    """An unknown word is no method."""
    found: Any = Found("ship")

    assert method_of(found, None).name == "always_valid"
    assert method_of(found, "bayesian").name == "bayesian"
    assert method_of(found, "nonsense").name == "always_valid"


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"event_type": "order"}, "The share of users with at least one order event, after the exposure."),
        ({"key": "k", "kind": "sum", "event_type": "order", "value": "price"},
         "The sum of price of order events per user, after the exposure."),
        ({"key": "k", "kind": "retention", "event_type": "visit", "delay": "7d", "window": "1d"}, WEEKLY),
        ({"key": "k", "kind": "funnel", "steps": [{"event_type": "view"}, {"event_type": "buy"}]},
         "The share of users who do all of: view event, then buy event, after the exposure."),
        ({"key": "k", "kind": "quantile", "event_type": "load", "value": "ms", "level": 0.9, "direction": "decrease"},
         "The 90 % quantile of ms of load events, over events, after the exposure. Lower is better."),
        ({"key": "k", "kind": "ratio", "numerator": {"of": "count", "event_type": "click"},
          "denominator": {"event_type": "view"}},
         "Click events per view events, after the exposure."),
        ({"key": "k", "kind": "threshold", "of": "sum", "event_type": "order", "at_least": 100},
         "The share of users who reach 100 value in order events, after the exposure."),
        ({"key": "k", "kind": "count", "event_type": "click", "winsorize": {"upper": 99}},
         "Click events per user, after the exposure. Numbers of users above the 99th percentile are cut off there."),
    ],
)  # fmt: skip
def test_a_metric_in_one_sentence(definition: dict[str, Any], words: str) -> None:
    """What it counts, of whom, and when."""
    assert in_words(define(definition)) == words
