"""Where a number does not exist there is None with a reason, never NaN, 0 or 1."""

import math

import pytest

from upshot.statistics.comparison import compare_means, compare_proportions
from upshot.statistics.interval import Interval, mean_interval, proportion_interval
from upshot.statistics.moments import Moments
from upshot.statistics.score import score_difference_interval
from upshot.statistics.strata import compare_strata
from upshot.statistics.tails import normal_critical_value

B = Moments.binomial


def absent(*numbers: float | Interval | None) -> bool:
    """Whether none of these exists."""
    return all(number is None for number in numbers)


@pytest.mark.parametrize(
    ("control", "treatment"), [(Moments(), B(500, 25)), (B(500, 25), Moments()), (Moments(), Moments())]
)
def test_an_empty_arm_has_no_effect(control: Moments, treatment: Moments) -> None:
    """Without users in an arm there is not even a difference."""
    for effect in (compare_proportions(control, treatment, 0.05), compare_means(control, treatment, 0.05)):
        assert (effect.status, effect.lift_status) == ("no_users", "no_users")
        assert absent(effect.absolute_difference, effect.relative_lift, effect.p_value)
        assert absent(effect.absolute_interval, effect.relative_interval, effect.statistic)


def test_a_single_user_gives_a_difference_without_a_test() -> None:
    """One user in an arm has a mean but no variance."""
    effect = compare_means(Moments.of([2.0]), Moments.of([3.0, 5.0]), 0.05)
    assert (effect.status, effect.lift_status) == ("one_user", "one_user")
    assert (effect.absolute_difference, effect.relative_lift) == (2.0, 1.0)
    assert absent(effect.p_value, effect.absolute_interval, effect.standard_error)


@pytest.mark.parametrize(("successes", "lift_status"), [(0, "zero_baseline"), (200, "zero_variance")])
def test_proportions_all_alike_have_no_p_value(successes: int, lift_status: str) -> None:
    """Nobody or everybody converting in both arms shows no difference and proves nothing."""
    effect = compare_proportions(B(200, successes), B(200, successes), 0.05)
    assert (effect.status, effect.lift_status) == ("zero_variance", lift_status)
    assert effect.absolute_difference == 0.0
    assert absent(effect.p_value, effect.absolute_interval, effect.relative_interval)


def test_constants_that_differ_only_by_rounding_have_no_variance() -> None:
    """A constant merged from parts in different orders yields no p-value from the last digit."""
    control, treatment = Moments(), Moments(1000, 0.1 + 2e-17, 1e-31)
    for _ in range(1000):
        control += Moments(1, 0.1)
    assert compare_means(control, treatment, 0.05).status == "zero_variance"
    assert compare_strata([(control, treatment)], 0.05).status == "zero_variance"


def test_a_zero_baseline_has_no_lift() -> None:
    """A control mean of 0 leaves the difference and its test, but no lift."""
    effect = compare_means(Moments.of([-1.0, 1.0, 0.0]), Moments.of([1.0, 2.0, 4.0]), 0.05)
    assert (effect.status, effect.lift_status) == ("ok", "zero_baseline")
    assert absent(effect.relative_lift, effect.relative_interval)
    assert effect.p_value is not None


def test_a_baseline_lost_in_noise_has_an_unbounded_lift() -> None:
    """When control is not told apart from 0, the lift could be anything and none is given."""
    effect = compare_means(Moments(50, 0.1, 49.0), Moments(50, 0.9, 49.0), 0.05)
    assert (effect.status, effect.lift_status) == ("ok", "unbounded")
    assert absent(effect.relative_lift, effect.relative_interval)


def test_strata_without_two_users_per_arm_are_left_out() -> None:
    """A stratum in which an arm has one user changes nothing; with no other stratum there is no answer."""
    full = (Moments.of([1.0, 2.0, 3.0]), Moments.of([2.0, 4.0, 6.0]))
    thin = (Moments.of([100.0]), Moments.of([1.0, 2.0]))
    assert compare_strata([full, thin], 0.05) == compare_strata([full], 0.05)
    for strata in ([], [thin]):
        assert compare_strata(strata, 0.05).status == "too_few"
        assert compare_strata(strata, 0.05).absolute_difference is None


def test_opposite_certainties_have_the_outermost_bound() -> None:
    """Nobody against everybody: the difference is 1 and cannot exceed it."""
    effect = compare_proportions(B(20, 0), B(20, 20), 0.05)
    assert effect.absolute_interval is not None
    assert effect.absolute_interval.upper == 1.0
    assert effect.absolute_interval.lower is not None
    assert 0.5 < effect.absolute_interval.lower < 1.0


def test_values_that_are_no_proportions_are_refused() -> None:
    """A mean outside [0, 1] is a caller's mistake."""
    with pytest.raises(ValueError, match="0 and 1"):
        compare_proportions(Moments(10, 2.0, 1.0), B(10, 5), 0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_a_level_outside_zero_and_one_is_refused(alpha: float) -> None:
    """Every comparison checks its level, also without users."""
    for call in (
        lambda: compare_proportions(Moments(), Moments(), alpha),
        lambda: compare_means(Moments(), Moments(), alpha),
        lambda: compare_strata([], alpha),
        lambda: proportion_interval(Moments(), alpha),
        lambda: mean_interval(Moments(), alpha),
    ):
        with pytest.raises(ValueError, match="significance level"):
            call()


@pytest.mark.parametrize(("arm", "threshold"), [((0, 0), 3.84), ((3, 4), 3.84), ((3, 1), 0.0), ((3, 1), math.nan)])
def test_a_score_interval_refuses_impossible_input(arm: tuple[int, int], threshold: float) -> None:
    """No users, impossible counts, or no critical value raise."""
    with pytest.raises(ValueError, match=r"successes among|critical value"):
        score_difference_interval(arm, (5, 2), threshold)


def test_the_value_of_an_arm_has_a_wilson_interval() -> None:
    """The bounds solve (p - x/n)² = z² p(1-p)/n; with no or only successes one bound is the limit itself."""
    interval = proportion_interval(B(40, 7), 0.05)
    assert interval is not None
    z_square = normal_critical_value(0.05) ** 2
    for p in (interval.lower, interval.upper):
        assert p is not None
        assert (p - 7 / 40) ** 2 == pytest.approx(z_square * p * (1 - p) / 40)
    nobody, everybody = proportion_interval(B(40, 0), 0.05), proportion_interval(B(40, 40), 0.05)
    assert nobody is not None
    assert everybody is not None
    assert (nobody.lower, everybody.upper) == (0.0, 1.0)
    assert proportion_interval(Moments(), 0.05) is None


def test_the_value_of_an_arm_has_a_t_interval() -> None:
    """Three users 1, 2, 3: mean 2, error 1/sqrt 3, t of two degrees 4.3027; too few or alike users: none."""
    interval = mean_interval(Moments.of([1.0, 2.0, 3.0]), 0.05)
    reach = 4.302652729911275 / math.sqrt(3)
    assert interval is not None
    assert (interval.lower, interval.upper) == pytest.approx((2 - reach, 2 + reach))
    assert interval.upper != pytest.approx(2 + 1.96 / math.sqrt(3))
    assert absent(*(mean_interval(Moments.of(users), 0.05) for users in ([], [1.0], [4.0, 4.0])))
    assert mean_interval(Moments(7, 0.1, 1e-33), 0.05) is None
