"""Metrics: what a reference stands for, and which ones a result holds."""

from datetime import UTC, datetime
from typing import Any

import pytest

from upshot import experiments, metrics
from upshot.clock import FixedClock
from upshot.errors import Invalid
from upshot.experiments import Draft, Experiment
from upshot.metrics import Kind, Metric
from upshot.variants import VariantDraft

SPEND: dict[str, Any] = {"key": "spend", "kind": "sum", "event_type": "order"}


def experiment(**draft: Any) -> Experiment:
    """An experiment with these metrics."""
    wanted = Draft("Test", [VariantDraft("a"), VariantDraft("b")], **draft)
    return experiments.create(wanted, datetime(2026, 1, 1, tzinfo=UTC), FixedClock().new_id)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("purchase", Metric("purchase", Kind.CONVERSION, ("purchase",))),
        ("purchase:count", Metric("purchase:count", Kind.COUNT, ("purchase",))),
        ("a:b:sum", Metric("a:b:sum", Kind.SUM, ("a:b",))),
        ("a:other", Metric("a:other", Kind.CONVERSION, ("a:other",))),
        ("revenue", Metric("revenue", Kind.SUM, ("main",))),
        ("conversion_rate", Metric("conversion_rate", Kind.CONVERSION, ("main",))),
        (SPEND, Metric("spend", Kind.SUM, ("order",))),
        ({"event_type": "visit"}, Metric("visit", Kind.CONVERSION, ("visit",))),
        ({"key": "any", "kind": "count", "event_types": ["b", "a", "b"]}, Metric("any", Kind.COUNT, ("a", "b"))),
    ],
)
def test_a_reference_stands_for_a_metric(reference: Any, expected: Metric) -> None:
    """Texts and objects alike; `revenue` and `conversion_rate` look at the primary metric's events."""
    assert metrics.parse(reference, ("main",)) == expected


@pytest.mark.parametrize(
    "reference",
    ["", " x", "a\x00", 5, None, [], {}, {"key": "x"}, {"key": "x", "event_type": 5}, {"event_type": "x", "kind": "median"},
     {"event_type": "x", "kind": "sum"}, {"event_type": "x", "other": 1}, {"key": "", "event_type": "x"},
     {"key": "x", "event_types": []}],
)  # fmt: skip
def test_what_cannot_be_a_metric_is_refused(reference: Any) -> None:
    """With the place of the fault."""
    with pytest.raises(Invalid) as error:
        metrics.parse(reference, (), "/metrics/3")

    assert error.value.faults[0].pointer.startswith("/metrics/3")


@pytest.mark.parametrize(
    ("draft", "keys"),
    [
        ({}, ["conversion_rate", "revenue"]),
        ({"primary_metric": "buy"}, ["buy", "revenue"]),
        (
            {"primary_metric": "buy", "metrics": ["view", "buy"], "guardrails": ["renew"]},
            ["buy", "view", "renew", "revenue"],
        ),
        ({"primary_metric": "spend", "metrics": ["buy", SPEND]}, ["spend", "buy"]),
        ({"primary_metric": "revenue"}, ["revenue"]),
    ],
)
def test_a_result_holds_primary_others_guardrails_and_revenue(draft: dict[str, Any], keys: list[str]) -> None:
    """Each once, the primary one first; revenue only where no own metric is a sum."""
    assert [metric.key for metric in metrics.of_experiment(experiment(**draft))] == keys


def test_names_asked_for_mean_the_experiments_own_metrics_first() -> None:
    """`spend` is what the experiment calls so, any other name an event type."""
    found = metrics.asked_for(experiment(primary_metric="spend", metrics=[SPEND]), ["visit", "spend", "revenue"])

    assert [metric.event_types for metric in found] == [("visit",), ("order",), ("order",)]


def test_two_metrics_of_one_key_are_refused() -> None:
    """The same definition twice is one metric; two definitions are a fault; so are more than fifty."""
    other = SPEND | {"kind": "count"}

    assert len(metrics.parse_all([SPEND, SPEND], ())) == 1
    for references in ([SPEND, other], [f"m{n}" for n in range(51)]):
        with pytest.raises(Invalid):
            metrics.parse_all(references, ())
