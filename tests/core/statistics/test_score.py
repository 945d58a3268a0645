"""Score intervals of many comparisons at once: those that each would get alone."""

import random

import pytest

from upshot.statistics import score
from upshot.statistics.comparison import compare_means, compare_proportions, intervals_of, pooled_test
from upshot.statistics.interval import Interval
from upshot.statistics.moments import Moments
from upshot.statistics.score import score_difference_interval, score_intervals, score_ratio_interval

Asked = list[tuple[tuple[int, int], tuple[int, int], float]]


def many(seed: int, count: int) -> Asked:
    """Arms of one to a million users, common and rare, with none and all successes among them."""
    chance = random.Random(seed)
    asked: Asked = []
    for _ in range(count):
        users = [int(10 ** chance.uniform(0, 6)) for _ in range(2)]
        rate = 10 ** chance.uniform(-4, 0)
        arms = [(n, min(n, round(n * min(1.0, rate * chance.uniform(0.5, 2))))) for n in users]
        asked.append((arms[0], arms[1], chance.choice([0.5, 3.84, 9.2, 30.0])))
    return asked


def alone(asked: Asked) -> list[tuple[Interval, Interval]]:
    """Each by its own search."""
    return [(score_difference_interval(*one), score_ratio_interval(*one)) for one in asked]


def same(found: list[tuple[Interval, Interval]], expected: list[tuple[Interval, Interval]]) -> bool:
    """Every bound to nine digits, and unbounded where it is."""
    pairs = zip([i for both in found for i in both], [i for both in expected for i in both], strict=True)
    return all(
        (ours is None) is (theirs is None)
        and ours == (None if theirs is None else pytest.approx(theirs, rel=1e-9, abs=1e-12))
        for one, other in pairs
        for ours, theirs in ((one.lower, other.lower), (one.upper, other.upper))
    )


@pytest.mark.parametrize("count", [0, 1, 31, 32, 3_000])
def test_many_intervals_are_those_of_each_alone(count: int) -> None:
    """In their order, whether they are searched at once or one by one."""
    asked = many(count, count)

    assert same(score_intervals(asked), alone(asked))


def test_searches_that_end_too_soon_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one step for all, or without the arms that a common search cannot serve, they differ."""
    asked = many(1, 500)
    monkeypatch.setattr(score, "_NEARLY", 1.0)
    hasty = score_intervals(asked)
    monkeypatch.undo()

    assert not same(hasty, alone(asked))


def test_most_are_searched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one only where an arm has nothing but failures or successes, or the search is a long one."""
    asked = [one for one in many(2, 2_000) if all(0 < x < n for n, x in one[:2])]
    single: list[object] = []

    def noting(*one: object) -> Interval:
        single.append(one)
        return Interval(0.0, 0.0)

    monkeypatch.setattr(score, "score_difference_interval", noting)

    score_intervals(asked)

    assert len(single) < 0.1 * len(asked)


def test_intervals_of_many_effects_are_their_own() -> None:
    """Of shares and means mixed, at levels of their own, with effects that have no test among them."""
    chance = random.Random(5)
    effects = []
    for number in range(200):
        if number % 3:
            arms = [Moments.binomial(1_000, chance.randrange(0, 60)) for _ in range(2)]
            effects.append(pooled_test(*arms))
        else:
            effects.append(compare_means(Moments(50, 1.0, 40.0), Moments(60, chance.uniform(0, 2), 50.0), 0.05))
    effects.append(pooled_test(Moments(), Moments.binomial(10, 3)))
    asked = [(effect, chance.choice([1.96, 3.0])) for effect in effects]

    found = intervals_of(asked)

    for (effect, critical), intervals in zip(asked, found, strict=True):
        for ours, theirs in zip(intervals, effect.intervals(critical), strict=True):
            assert (ours is None) is (theirs is None)
            if ours is not None and theirs is not None:
                assert ours.lower == pytest.approx(theirs.lower, rel=1e-9)
                assert ours.upper == pytest.approx(theirs.upper, rel=1e-9)
    assert found[-1] == (None, None)


def test_a_test_alone_is_that_of_the_whole_comparison() -> None:
    """The same numbers, without the intervals."""
    arms = Moments.binomial(1_000, 50), Moments.binomial(1_200, 90)

    whole, test = compare_proportions(*arms, 0.05), pooled_test(*arms)

    assert (test.absolute_interval, test.relative_interval) == (None, None)
    assert (test.p_value, test.statistic, test.relative_lift) == (whole.p_value, whole.statistic, whole.relative_lift)
    assert whole.absolute_interval is not None
