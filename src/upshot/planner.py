"""Planning an experiment: how many users, for how many days, for which effect.

Effect, users and days hang together by what is known before the start: a metric's value and its variance per user (the
`Baseline`), and how the experiment will be divided and judged (the `Design`). Two of the three follow from the third.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from upshot import statistics
from upshot.analysisplan import MOST_USERS, Stopping
from upshot.sensitivity import Baseline, Change, Criterion, Design, Reach, change_of, needed

__all__ = ["LONGEST", "LOOKS", "MOST_LOOKS", "Baseline", "Change", "Design", "Plan", "Point", "plan"]

LOOKS = 14
"""Looks of a group-sequential plan where it is not known how many days it takes."""

MOST_LOOKS = 56
"""More looks than eight weeks of days cost less than another half percent of users, and long to compute."""

LONGEST = 10_000
"""A plan of more days is none."""

_HALF = 12  # points of the curve up to the plan, and as many beyond it


@dataclass(frozen=True, slots=True)
class Point:
    """What so many users of all variants, or days, would show; None for an effect that so few cannot show."""

    days: int | None
    users: int
    detectable: Change
    power: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan. `days` are whole weeks where they follow from users, `exact_days` tell when the last user has come.

    `effect` is the one asked for and `power` the chance to find it; `detectable` is the smallest that these users show with
    the power of the design. `level` is the part of alpha of each comparison, `critical_value` that of a test with a single
    look which needs as many users, `inflation` how many times the users of a single look that is, for a mean. `looks` is None
    where any number is free. `expected_users` have come on average when a look ends the experiment, if the effect is there.
    `reasons` say, by name, why a number does not exist.
    """

    users: int | None
    users_per_variant: tuple[int, ...] | None
    days: int | None
    exact_days: float | None
    effect: Change
    detectable: Change
    power: float | None
    comparisons: int
    level: float
    looks: int | None
    critical_value: float
    inflation: float
    curve: tuple[Point, ...]
    reasons: Mapping[str, str]
    expected_users: int | None = None


def plan(baseline: Baseline, design: Design, *, users: int | None = None, days: int | None = None) -> Plan:
    """The plan with the users that the design's effect needs, or with so many `users`, or with those of so many `days`.

    Raises ValueError when there is nothing to start from, or both users and days, or the design makes no sense.
    """
    _require(design, users, days)
    coming = _Coming(baseline)
    effect, no_effect = _asked(baseline, design)
    size = effect.absolute if no_effect is None else None
    if users is None and days is None:
        criterion, arms, no_users = _sized(baseline, design, size, coming)
        no_users = no_effect or no_users
    else:
        criterion, arms, no_users = _given(design, users, days, coming)
    total = None if arms is None else sum(arms)
    length, exact, no_days = _duration(total, days, coming)
    reach = Reach(baseline, criterion, size)
    detectable = reach.detectable(total)
    power = reach.power(total)
    curve = tuple(
        Point(day, count, reach.detectable(count), reach.power(count)) for count, day in _places(total, length, coming)
    )
    always = design.stopping is Stopping.ALWAYS_VALID
    share = None if power is None else criterion.expected_share(power)
    expected = None if share is None or total is None else math.ceil(share * total)
    reasons = {
        "users": no_users,
        "days": None if length is not None else no_users or no_days,
        "effect": no_effect,
        "effect.relative": "zero_baseline" if effect.absolute is not None and effect.relative is None else None,
        "detectable": None if detectable.absolute is not None else baseline.fault or no_users or "too_few",
        "detectable.relative": "zero_baseline" if detectable.absolute and detectable.relative is None else None,
        "power": None if power is not None else no_effect or no_users or "too_few",
        "looks": "any_number" if always else None,
        "expected_users": None
        if expected is not None
        else no_effect or no_users or ("any_number" if always else "too_few"),
        "curve": None if curve else no_users,
    }
    return Plan(
        users=total,
        users_per_variant=arms,
        days=length,
        exact_days=exact,
        effect=effect,
        detectable=detectable,
        power=power,
        comparisons=design.comparisons,
        level=design.level,
        looks=None if always else criterion.looks,
        critical_value=criterion.critical_value,
        inflation=statistics.inflation_of(criterion.critical_value, design.level, design.power),
        curve=curve,
        reasons={name: why for name, why in reasons.items() if why is not None},
        expected_users=expected,
    )


@dataclass(frozen=True, slots=True)
class _Coming:
    """How users come, day by day, as far as it is known."""

    baseline: Baseline

    @property
    def rate(self) -> float | None:
        """Users per day, or None where none come."""
        rate = self.baseline.users_per_day
        return rate if rate is not None and 0.0 < rate < math.inf else None

    def days(self, users: int | None) -> float | None:
        """When so many count."""
        if users is None or self.rate is None:
            return None
        return users / self.rate + self.baseline.days_to_count

    def users(self, days: float) -> int | None:
        """How many count after so many days."""
        return None if self.rate is None else math.floor(max(days - self.baseline.days_to_count, 0.0) * self.rate)


def _asked(baseline: Baseline, design: Design) -> tuple[Change, str | None]:
    """The effect that the design asks for, and why nothing can be planned for it, if so."""
    relative, absolute = design.relative_effect, design.absolute_effect
    given = Change(relative, absolute)
    if given == Change():
        return given, "not_asked"
    if baseline.fault is not None or baseline.value is None:
        return given, baseline.fault
    if absolute is None and relative is not None:
        absolute = relative * abs(baseline.value)
    if not absolute:
        return given, "zero_baseline"
    found = Change(change_of(baseline, absolute).relative if relative is None else relative, absolute)
    if baseline.is_share and not 0.0 < baseline.value + absolute < 1.0:
        return found, "effect_out_of_range"
    return found, None


def _sized(
    baseline: Baseline, design: Design, effect: float | None, coming: _Coming
) -> tuple[Criterion, tuple[int, ...] | None, str | None]:
    """The criterion, and the users of each variant that it needs for an effect, or why there are none."""
    criterion = Criterion(design, _looks(design, None if coming.rate is None else 1.0))
    if effect is None:
        return criterion, None, None
    least = Reach(baseline, criterion, effect).detectable(MOST_USERS).absolute
    if not least or abs(effect) < abs(least):
        return criterion, None, "too_many_users"
    while True:
        arms = needed(baseline, criterion, effect)
        if sum(arms) > MOST_USERS:  # only the price of looks took it there
            return criterion, None, "too_many_users"
        looks = _looks(design, coming.days(sum(arms)))
        if looks <= criterion.looks:
            return criterion, arms, None
        # More days are more looks, which cost a few more users; it ends because the price of looks is bounded.
        criterion = Criterion(design, looks)


def _given(
    design: Design, users: int | None, days: int | None, coming: _Coming
) -> tuple[Criterion, tuple[int, ...] | None, str | None]:
    """The criterion, and the users of each variant, when so many users or days are given, or why there are none."""
    count = users if days is None else coming.users(days)
    criterion = Criterion(design, _looks(design, days if days is not None else coming.days(count)))
    if count is None:
        return criterion, None, "no_users_per_day"
    if count > MOST_USERS:
        return criterion, None, "too_many_users"
    # Cumulative shares, rounded: the parts add up to the whole.
    total = sum(design.shares)
    ends = [count * sum(design.shares[:place]) // total for place in range(len(design.shares) + 1)]
    return criterion, tuple(end - start for start, end in pairwise(ends)), None


def _looks(design: Design, days: float | None) -> int:
    if design.stopping is not Stopping.GROUP_SEQUENTIAL:
        return 1
    if design.looks is not None:
        return design.looks
    return LOOKS if days is None else max(math.ceil(min(days, MOST_LOOKS)), 1)


def _duration(users: int | None, days: int | None, coming: _Coming) -> tuple[int | None, float | None, str | None]:
    """Days, in whole weeks where they are not given; exact days; or why there are none."""
    if days is not None:
        return days, float(days), None
    exact = coming.days(users)
    if exact is None or exact > LONGEST:
        return None, None, "no_users_per_day" if exact is None else "too_long"
    # As many days as one user a day would need for them.
    return statistics.days_needed(max(math.ceil(exact), 1), 1.0), exact, None


def _places(users: int | None, days: int | None, coming: _Coming) -> Iterator[tuple[int, int | None]]:
    """Users and days of the curve's points, to twice the plan."""
    if users is None:
        return
    steps = range(1, 2 * _HALF + 1)
    if days is None or coming.rate is None:
        yield from ((count, None) for count in sorted({max(users * step // _HALF, 1) for step in steps}))
    else:
        middle = max(days, 14)
        at = sorted({max(round(middle * step / _HALF), 1) for step in steps} | {days})
        yield from ((coming.users(day) or 0, day) for day in at)


def _require(design: Design, users: int | None, days: int | None) -> None:
    effects = [effect for effect in (design.relative_effect, design.absolute_effect) if effect is not None]
    for fine, message in (
        (bool(effects) or users is not None or days is not None, "an effect, users or days must be given"),
        (users is None or days is None, "users and days follow from each other; one must be given"),
        (len(effects) < 2, "an effect must be relative or absolute"),
        (all(math.isfinite(effect) and effect != 0.0 for effect in effects), "an effect must be finite and not zero"),
        (users is None or users >= 1, "users must be positive"),
        (days is None or 1 <= days <= LONGEST, f"days must be 1 to {LONGEST}"),
        (len(design.shares) > 1 and min(design.shares) > 0, "two or more variants must have positive shares"),
        (design.looks is None or 1 <= design.looks <= MOST_LOOKS, f"looks must be 1 to {MOST_LOOKS}"),
    ):
        if not fine:
            raise ValueError(message)
