"""The shape of a result: the public contract that every reader of results relies on. Fields are added, never changed.

A number that does not exist is null, with a reason beside it. Times are ISO 8601 in UTC; intervals are (lower, upper), and
null on a side means unbounded there.
"""

from dataclasses import dataclass

from upshot.report.answer import (
    Caution,
    CostOfWaiting,
    EventLossHealth,
    Health,
    Look,
    LossComparison,
    PlanChanged,
    ReportedExperiment,
    ReportedPlan,
    SampleRatioHealth,
    Summary,
    VariantLoss,
    Window,
)
from upshot.report.breakdown import (
    CumulativePoint,
    InteractionReport,
    Point,
    SegmentDifference,
    SegmentReport,
    SufficientStatistics,
)
from upshot.report.numbers import Adjusted, Comparison, Informed, MetricValue, VariantReport

__all__ = [
    "Adjusted",
    "Caution",
    "Comparison",
    "CostOfWaiting",
    "CumulativePoint",
    "EventLossHealth",
    "Health",
    "Informed",
    "InteractionReport",
    "Look",
    "LossComparison",
    "MetricValue",
    "PlanChanged",
    "Point",
    "Report",
    "ReportedExperiment",
    "ReportedPlan",
    "SampleRatioHealth",
    "SegmentDifference",
    "SegmentReport",
    "SufficientStatistics",
    "Summary",
    "VariantLoss",
    "VariantReport",
    "Window",
]


@dataclass(frozen=True, slots=True)
class Report:
    """A result. The lists at the end are filled in where they are asked for, and empty otherwise. Intervals that name no other
    level are at the `confidence_level`."""

    experiment: ReportedExperiment
    window: Window
    summary: Summary
    health: Health
    variants: list[VariantReport]
    comparisons: list[Comparison]
    time_series: list[Point]
    segments: list[SegmentReport]
    sufficient_statistics: list[SufficientStatistics]
    plan: ReportedPlan | None = None
    segment_differences: list[SegmentDifference] | None = None
    interactions: list[InteractionReport] | None = None
    cumulative: list[CumulativePoint] | None = None
    confidence_level: float = 0.95
