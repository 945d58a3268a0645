"""Figures of the Hillstrom e-mail challenge (64,000 customers, two weeks), as other software gives them."""

import math

import pytest

from upshot.statistics.comparison import compare_means, compare_proportions
from upshot.statistics.moments import Moments
from upshot.statistics.srm import ALERT, sample_ratio

NONE, MENS, WOMENS = 21_306, 21_307, 21_387


@pytest.mark.parametrize(
    ("users", "count", "percent"),
    [
        (NONE, 2262, 10.6167),
        (MENS, 3894, 18.2757),
        (WOMENS, 3238, 15.1400),
        (NONE, 122, 0.572609),
        (MENS, 267, 1.253109),
        (WOMENS, 189, 0.883714),
    ],
)
def test_the_counts_are_the_published_percentages(users: int, count: int, percent: float) -> None:
    """Each whole count rounds to the published share, and its neighbours do not."""
    digits = 4 if percent > 5 else 6
    assert round(100 * count / users, digits) == percent
    assert round(100 * (count + 1) / users, digits) != percent


def test_the_split_is_as_published() -> None:
    """Three equal arms: p = .9037, no alert; two hundred users moved would be noticed."""
    assert sample_ratio([NONE, MENS, WOMENS], [1, 1, 1]).p_value == pytest.approx(0.9037, abs=5e-5)
    skewed = sample_ratio([NONE - 400, MENS, WOMENS + 400], [1, 1, 1]).p_value
    assert skewed is not None
    assert skewed < ALERT


@pytest.mark.parametrize(
    ("control", "treatment", "p_value"),
    [
        (Moments.binomial(NONE, 2262), Moments.binomial(MENS, 3894), 5.685e-112),
        (Moments.binomial(NONE, 122), Moments.binomial(MENS, 267), 1.5232e-13),
        (Moments.binomial(NONE, 122), Moments.binomial(WOMENS, 189), 1.57105e-4),
    ],
)
def test_visits_and_conversions_are_as_published(control: Moments, treatment: Moments, p_value: float) -> None:
    """The pooled z-test gives the published p-values; Welch's test of the same ones and zeros does not."""
    published = pytest.approx(p_value, rel=1e-4, abs=0)
    assert compare_proportions(control, treatment, 0.05).p_value == published
    assert compare_means(control, treatment, 0.05).p_value != published


def test_the_visit_statistic_is_as_published() -> None:
    """Men's e-mail against none: z = 22.48604."""
    effect = compare_proportions(Moments.binomial(NONE, 2262), Moments.binomial(MENS, 3894), 0.05)
    assert effect.statistic == pytest.approx(22.48604, abs=5e-6)


def test_mens_spend_is_as_published() -> None:
    """Men's e-mail against none on spend per customer: t = 5.30014, p = 1.16381e-7."""
    control = Moments(NONE, 13908.33 / NONE, 2870050.3621 - 13908.33**2 / NONE)
    treatment = Moments(MENS, 30311.69 / MENS, 6759024.4973 - 30311.69**2 / MENS)
    effect = compare_means(control, treatment, 0.05)
    assert effect.statistic == pytest.approx(5.30014, abs=5e-6)
    assert effect.p_value == pytest.approx(1.16381e-7, rel=1e-5, abs=0)
    assert math.erfc(5.30014 / math.sqrt(2)) != pytest.approx(1.16381e-7, rel=1e-5, abs=0)
