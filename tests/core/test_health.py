"""What a reader of a result is warned of: means of values that are too skewed for so few users, and users who are left out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import pytest
from scipy import stats

from upshot import results
from upshot.aggregation import Aggregates, Cell, Measured
from upshot.arms import Arms
from upshot.experiments import Draft, create
from upshot.metrics import Kind, Metric
from upshot.report import Report, Window
from upshot.results import Question
from upshot.statistics import Moments, ThirdMoments, users_for_skewness
from upshot.variants import VariantDraft

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REVENUE, BOUGHT = Metric("revenue", Kind.SUM, ("buy",)), Metric("bought", Kind.CONVERSION, ("buy",))
CODE = "skewed_values"


def reported(
    users: Mapping[str, int],
    buyers: Mapping[str, list[float]],
    metric: Metric = REVENUE,
    silent: float = 0.0,
    withdrawn: Mapping[str, int] = MappingProxyType({}),
) -> Report:
    """The full result of an experiment of so many users, of whom some bought for these values."""
    draft = Draft("Test", [VariantDraft(name) for name in users], primary_metric="buy")
    numbers = iter(range(100))
    experiment = create(draft, NOW, lambda: f"id-{next(numbers)}")
    cells = {variant.name: Cell(variant.position, 1) for variant in experiment.variants}
    measured = {}
    for name, values in buyers.items():
        moments = Moments.binomial(len(values), len(values)) if metric.is_share else Moments.of(values)
        third = None if metric.is_share else ThirdMoments.of(values)
        found = Measured(len(values), len(values), moments.total, moments, (silent,), third=third)
        measured[cells[name], metric.key] = found
    question = Question((metric,), {}, Window(None, NOW, "UTC", NOW), 0.95)
    aggregates = Aggregates({cells[name]: n for name, n in users.items()}, measured=measured, withdrawn=withdrawn)
    return results.report(experiment, question, aggregates, sufficient=True)


def cautions(report: Report) -> list[str]:
    """What is said of skewness."""
    return [warning.message for warning in report.health.warnings if warning.code == CODE]


def test_the_mean_that_lacks_most_users_is_warned_of_once() -> None:
    """With its metric, its variant, and how many users are there and wanted; silent users are values, too."""
    values = [9.0, 10.0, 11.0] * 30  # symmetric by themselves
    report = reported(
        {"large": 9_000, "small": 1_000, "tiny": 900}, {"large": values, "small": values, "tiny": values * 2}
    )

    [message] = cautions(report)

    wanted = users_for_skewness(float(stats.skew(values + [0.0] * (9_000 - len(values)))))
    assert f"revenue is skewed: its mean wants {wanted:,} users in large, which has 9,000." in message
    assert "Winsorising, more users or a split nearer to half" in message


def test_users_enough_are_not_warned_of() -> None:
    """As many as the rule wants are enough; one less is not. Shares have their own rules, and no caution."""

    def users_of(number: int) -> Report:
        values = [10.0] * (number // 10)
        return reported({"a": number, "b": number}, {"a": values, "b": values})

    wanted = users_for_skewness(float(stats.skew([10.0] + [0.0] * 9)))

    assert cautions(users_of(wanted // 10 * 10 - 10))
    assert not cautions(users_of(wanted // 10 * 10 + 10))
    assert not cautions(reported({"a": 50, "b": 50}, {"a": [1.0], "b": [1.0]}, BOUGHT))
    assert not cautions(reported({"a": 50, "b": 50}, {}))


def test_a_full_result_shows_the_skewness_of_all_users() -> None:
    """That of SciPy over everybody, those without events at what zero was cut off to; null of shares and where all are alike."""
    values = [1.0, 5.0, 30.0, 2.0]
    report = reported({"a": 20, "b": 20}, {"a": values}, silent=0.5)
    share = reported({"a": 20, "b": 20}, {"a": [1.0]}, BOUGHT)

    shown = {part.variant: part.skewness for part in report.sufficient_statistics}

    assert shown == {"a": pytest.approx(stats.skew([*values, *[0.5] * 16])), "b": None}
    assert {part.skewness for part in share.sufficient_statistics} == {None}


def test_users_who_are_left_out_are_told_of_by_reason() -> None:
    """Each reason has its warning; a crossover is whoever had two variants, and nobody is where nobody was left out."""
    words = {"identity_conflict": "identity_conflicts", "crossover": "crossovers", "override": "overrides"}
    users = {"a": 10, "b": 10}

    for reason, code in words.items():
        health = reported(users, {}, withdrawn={reason: 3, "another": 1}).health
        assert {warning.code for warning in health.warnings} & set(words.values()) == {code}
        assert health.withdrawn == {reason: 3, "another": 1}
        assert health.identity_conflicts == (3 if reason == "identity_conflict" else 0)
        assert health.crossovers == (0 if reason == "override" else 3)
    whole = reported(users, {}).health
    assert not {warning.code for warning in whole.warnings} & set(words.values())
    assert (whole.withdrawn, whole.identity_conflicts, whole.crossovers) == ({}, 0, 0)


def filled_without_silent_users(whole: Callable[..., Measured]) -> Callable[..., Measured]:
    """Third moments of those who bought only."""

    def filled(arms: Arms, variant: object, phase: int, metric: Metric, found: Measured) -> Measured:
        return replace(whole(arms, variant, phase, metric, found), third=found.third)

    return filled


def test_the_tests_of_the_rule_catch_its_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule without the square, and one that looks at buyers only, say nothing where a caution is due."""
    values = [9.0, 10.0, 11.0] * 30
    counts = {"large": 9_000, "small": 3_000}

    def said() -> list[str]:
        return cautions(reported(counts, {"large": values, "small": values}))

    assert said()
    with monkeypatch.context() as broken:
        broken.setattr("upshot.statistics.users_for_skewness", lambda skewness: 355 * abs(skewness))
        assert not said()
    with monkeypatch.context() as broken:
        broken.setattr(Arms, "_filled", filled_without_silent_users(Arms._filled))
        assert not said()
