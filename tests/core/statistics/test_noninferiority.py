"""Non-inferiority: the frozen oracle numbers, the laws of the verdict, and broken variants that must be caught."""

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtr

from upshot.statistics.comparison import compare_means
from upshot.statistics.moments import Moments
from upshot.statistics.noninferiority import Guardrail, non_inferiority
from upshot.statistics.sequential import always_valid_critical_value
from upshot.statistics.tails import normal_critical_value, normal_p_value

Case = dict[str, Any]
Options = dict[str, Any]

COVERED = {
    "test_an_absolute_margin_equals_the_oracle": ("non_inferiority_proportions",),
    "test_a_relative_margin_equals_the_oracle": ("non_inferiority_relative",),
}

means = st.builds(
    lambda n, mean, deviation: Moments(n, mean, deviation * deviation * (n - 1)),
    st.integers(2, 10_000),
    st.floats(-100, 100).map(lambda mean: round(mean, 3)),
    st.floats(0.01, 100),
)
levels = st.sampled_from([0.001, 0.025, 0.05, 0.2])
margins = st.floats(0, 0.9)


def close(expected: float) -> Any:
    """Equality within the relative 1e-9 that the vectors promise for closed forms."""
    return pytest.approx(expected, rel=1e-9, abs=1e-300)


def margin_of(kind: str, margin: float) -> Options:
    """The one margin of this kind, as an argument."""
    return {kind: margin}


def test_an_absolute_margin_equals_the_oracle(case: Case) -> None:
    """z, one-sided p, bound and verdict equal the oracle; pooled, two-sided and n - 1 variants do not."""
    inputs, params, expected = case["inputs"], case["params"], case["expected"]
    control, treatment = (Moments.binomial(arm["n"], arm["conversions"]) for arm in inputs.values())
    options = {key: params[key] for key in ("alpha", "margin_absolute", "higher_is_better")}
    found = non_inferiority(control, treatment, proportions=True, **options)
    assert found.status == "ok"
    assert found.z == close(expected["z"])
    assert found.p_value == close(expected["p_value"])
    assert found.bound == close(expected["ci_lower_one_sided"])
    assert (found.verdict == "safe") == expected["non_inferior"]
    pooled = (control + treatment).mean
    error = math.sqrt(pooled * (1 - pooled) * (1 / control.n + 1 / treatment.n))
    assert (treatment.mean - control.mean + params["margin_absolute"]) / error != close(expected["z"])
    assert normal_p_value(found.z or 0.0) != close(expected["p_value"])
    assert non_inferiority(control, treatment, **options).z != close(expected["z"])
    both_sides = non_inferiority(control, treatment, **{**options, "alpha": params["alpha"] / 2}, proportions=True)
    assert both_sides.bound != close(expected["ci_lower_one_sided"])


def test_a_relative_margin_equals_the_oracle(case: Case) -> None:
    """z and p of the linear contrast equal the oracle; a fixed control mean, two sides or ddof 0 do not."""
    params, expected = case["params"], case["expected"]
    control, treatment = (
        Moments(arm["n"], arm["mean"], arm["var"] * (arm["n"] - 1)) for arm in case["inputs"].values()
    )
    found = non_inferiority(control, treatment, alpha=params["alpha"], margin_relative=params["margin_relative"])
    assert found.z == close(expected["z"])
    assert found.p_value == close(expected["p_value"])
    assert found.verdict == ("safe" if expected["p_value"] < params["alpha"] else "inconclusive")
    assert normal_p_value(found.z or 0.0) != close(expected["p_value"])
    as_absolute = params["margin_relative"] * control.mean
    assert non_inferiority(control, treatment, alpha=0.05, margin_absolute=as_absolute).z != close(expected["z"])
    kept = 1 - params["margin_relative"]
    contrast = treatment.mean - kept * control.mean
    by_n = math.sqrt(treatment.m2 / treatment.n**2 + kept**2 * control.m2 / control.n**2)
    assert contrast / by_n != close(expected["z"])
    lift = treatment.mean / control.mean - 1
    v0, v1 = ((arm.variance or 0.0) / arm.n for arm in (control, treatment))
    delta = math.sqrt(v1 / control.mean**2 + v0 * treatment.mean**2 / control.mean**4)
    assert (lift + params["margin_relative"]) / delta != close(expected["z"])


@given(means, means, levels, margins)
def test_safe_is_where_p_falls_below_the_level(
    control: Moments, treatment: Moments, alpha: float, margin: float
) -> None:
    """Safe, p < alpha, and a bound within the margin are one statement, for both kinds of margin and both directions."""
    for higher in (True, False):
        side = 1 if higher else -1
        for kind in ("margin_absolute", "margin_relative"):
            found = non_inferiority(
                control,
                treatment,
                alpha=alpha,
                higher_is_better=higher,
                harm_critical=math.inf,
                **margin_of(kind, margin),
            )
            if found.status == "zero_baseline":
                continue
            assert found.p_value is not None
            assume(abs(found.p_value - alpha) > 1e-9 * alpha)
            assert found.verdict == ("safe" if found.p_value < alpha else "inconclusive")
            if found.bound is not None and abs(side * found.bound + margin) > 1e-9 * (1 + abs(found.bound)):
                assert (found.verdict == "safe") == (side * found.bound > -margin)


@given(means, means, levels, margins)
def test_a_mirrored_metric_has_the_same_verdict(
    control: Moments, treatment: Moments, alpha: float, margin: float
) -> None:
    """Errors that may not rise are successes, negated, that may not fall: same z, opposite bound."""

    def negated(arm: Moments) -> Moments:
        return Moments(arm.n, -arm.mean, arm.m2)

    for kind in ("margin_absolute", "margin_relative"):
        options: Options = {"alpha": alpha, **margin_of(kind, margin)}
        up = non_inferiority(control, treatment, **options)
        down = non_inferiority(negated(control), negated(treatment), higher_is_better=False, **options)
        assert (up.verdict, up.z, up.p_value, up.status) == (down.verdict, down.z, down.p_value, down.status)
        if up.bound is not None:
            assert down.bound == pytest.approx(-up.bound, rel=1e-9, abs=1e-9)


@given(means, means, levels, margins, st.floats(0.01, 100))
def test_the_unit_does_not_matter(
    control: Moments, treatment: Moments, alpha: float, margin: float, unit: float
) -> None:
    """A relative margin means the same in every unit, an absolute one scales with it."""
    scaled = [Moments(arm.n, arm.mean * unit, arm.m2 * unit * unit) for arm in (control, treatment)]
    for kind, factor in (("margin_absolute", unit), ("margin_relative", 1.0)):
        plain = non_inferiority(control, treatment, alpha=alpha, **margin_of(kind, margin))
        other = non_inferiority(scaled[0], scaled[1], alpha=alpha, **margin_of(kind, margin * factor))
        assert other.status == plain.status
        if plain.z is not None:
            assert other.z == pytest.approx(plain.z, rel=1e-6, abs=1e-6)


@given(means, means, levels)
def test_harm_is_a_significant_change_to_the_worse(control: Moments, treatment: Moments, alpha: float) -> None:
    """Harmed exactly when the normal two-sided p of the difference is below alpha and the sign is the bad one."""
    for higher in (True, False):
        found = non_inferiority(control, treatment, alpha=alpha, margin_absolute=0.5, higher_is_better=higher)
        z = compare_means(control, treatment, alpha).statistic
        assert z is not None
        p_value = normal_p_value(z)
        assume(abs(p_value - alpha) > 1e-9 * alpha)
        assert (found.verdict == "harmed") == (p_value < alpha and (z < 0) == higher)


def test_harm_goes_before_safety_and_waits_for_a_sequential_bound() -> None:
    """A small but certain harm within the margin is harm; while the result is watched it takes more to say so."""
    control, treatment = Moments(10_000, 10.0, 9_999.0), Moments(10_000, 9.965, 9_999.0)
    fixed = non_inferiority(control, treatment, alpha=0.05, margin_absolute=0.5)
    watched = non_inferiority(
        control,
        treatment,
        alpha=0.05,
        margin_absolute=0.5,
        harm_critical=always_valid_critical_value(20_000, 0.05, 10_000),
    )
    assert (fixed.verdict, watched.verdict) == ("harmed", "safe")
    assert (fixed.z, fixed.bound) == (watched.z, watched.bound)


def test_not_significant_is_not_safe() -> None:
    """A hundred users show neither harm nor safety; more users without a difference show safety."""
    small, large = Moments(100, 10.0, 99 * 100.0), Moments(100_000, 10.0, 99_999 * 100.0)
    assert compare_means(small, small, 0.05).p_value == 1.0
    assert non_inferiority(small, small, alpha=0.05, margin_relative=0.02).verdict == "inconclusive"
    assert non_inferiority(large, large, alpha=0.05, margin_relative=0.02).verdict == "safe"


def test_a_negative_baseline_keeps_the_direction() -> None:
    """With a control mean of -10, a tenth of |-10| to the worse is -11, not -9."""
    control = Moments(1000, -10.0, 999.0)
    slightly = non_inferiority(
        control, Moments(1000, -10.5, 999.0), alpha=0.05, margin_relative=0.1, harm_critical=99.0
    )
    much = non_inferiority(control, Moments(1000, -11.5, 999.0), alpha=0.05, margin_relative=0.1, harm_critical=99.0)
    assert (slightly.verdict, much.verdict) == ("safe", "inconclusive")
    assert slightly.bound is not None
    assert -0.1 < slightly.bound < -0.05
    assert (-10.5 - 0.9 * -10.0) / math.sqrt(1.81 / 1000) != pytest.approx(slightly.z)


def test_a_lift_without_bounds_leaves_the_verdict() -> None:
    """Where control is lost in noise no bound of the lift exists, but the contrast still has its test."""
    found = non_inferiority(Moments(50, 0.1, 49.0), Moments(50, 0.9, 49.0), alpha=0.05, margin_relative=0.1)
    assert (found.verdict, found.bound, found.status) == ("safe", None, "ok")
    assert found.p_value == close(float(ndtr(-(0.9 - 0.9 * 0.1) / math.sqrt((1 + 0.81) / 50))))


@pytest.mark.parametrize(
    ("control", "treatment", "status"),
    [
        (Moments(), Moments(9, 1.0, 8.0), "no_users"),
        (Moments(9, 1.0, 8.0), Moments(), "no_users"),
        (Moments(1, 1.0, 0.0), Moments(9, 1.0, 8.0), "one_user"),
        (Moments(9, 1.0, 0.0), Moments(9, 2.0, 0.0), "zero_variance"),
        (Moments(9, 0.0, 8.0), Moments(9, 1.0, 8.0), "zero_baseline"),
    ],
)
def test_arms_without_a_test_have_no_verdict(control: Moments, treatment: Moments, status: str) -> None:
    """Without users or variance, or a margin relative to nothing, there is a status and no number."""
    absent = Guardrail(None, None, None, None, status)
    assert non_inferiority(control, treatment, alpha=0.05, margin_relative=0.1) == absent
    if status != "zero_baseline":
        assert non_inferiority(control, treatment, alpha=0.05, margin_absolute=0.1) == absent


def test_shares_of_nobody_or_everybody_have_no_verdict() -> None:
    """No crash in either arm: no variance of a share, and no proof of safety."""
    nobody = Moments.binomial(200, 0)
    found = non_inferiority(nobody, nobody, alpha=0.05, margin_absolute=0.01, proportions=True, higher_is_better=False)
    assert found == Guardrail(None, None, None, None, "zero_variance")


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.05},
        {"alpha": 0.05, "margin_absolute": 1.0, "margin_relative": 0.1},
        {"alpha": 0.05, "margin_absolute": -1.0},
        {"alpha": 0.05, "margin_absolute": math.inf},
        {"alpha": 0.05, "margin_relative": 1.0},
        {"alpha": 0.05, "margin_relative": -0.1},
        {"alpha": 0.05, "margin_absolute": 1.0, "harm_critical": 0.0},
        {"alpha": 0.5, "margin_absolute": 1.0},
        {"alpha": 0.0, "margin_absolute": 1.0},
    ],
)
def test_impossible_margins_and_levels_are_refused(options: Options) -> None:
    """No margin, two margins, negative ones and levels outside (0, .5) raise, also without users."""
    with pytest.raises(ValueError, match=r"margin|critical value|significance level"):
        non_inferiority(Moments(), Moments(), **options)


def test_the_margin_itself_is_called_safe_in_at_most_five_percent() -> None:
    """At a true harm of just the margin the test says safe at its level: z = 1.645 exactly is the limit."""
    critical = normal_critical_value(0.1)
    control = Moments(100, 10.0, 99.0 * 100 / 2)
    at_limit = Moments(100, 9.5 + critical, 99.0 * 100 / 2)
    found = non_inferiority(control, at_limit, alpha=0.05, margin_absolute=0.5)
    assert found.z == close(critical)
    assert found.p_value == close(0.05)
    assert non_inferiority(control, at_limit, alpha=0.051, margin_absolute=0.5).verdict == "safe"
    assert non_inferiority(control, at_limit, alpha=0.049, margin_absolute=0.5).verdict == "inconclusive"
