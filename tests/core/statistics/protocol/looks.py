"""C1 to C6: an experiment without an effect, looked at once, daily, or after every user."""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from tests.core.statistics.protocol.rows import (
    ALPHA,
    COMPARED,
    CRITICAL,
    Array,
    Row,
    Size,
    assert_pooled,
    assert_welch,
    pooled_z,
    unpooled_z,
    welch,
)

from upshot.calibration import at_most, exactly
from upshot.effects import NON_ZERO_USERS
from upshot.statistics import Spending, always_valid_critical_value, always_valid_p_value, boundaries, looks_up_to
from upshot.statistics.groupsequential import spent
from upshot.statistics.tails import normal_critical_value

DAYS, PER_DAY = 28, 1_000


@lru_cache(maxsize=2)
def daily(runs: int, rate: float) -> tuple[NDArray[np.int64], Array]:
    """Users per arm by day, and z of as many experiments without an effect on each, 1000 users per arm and day."""
    rng = np.random.default_rng(20_261)
    counts = rng.binomial(PER_DAY, rate, (2, runs, DAYS)).cumsum(axis=2)
    users = PER_DAY * np.arange(1, DAYS + 1)
    z = pooled_z(users, counts[0], users, counts[1])
    for day in (0, DAYS - 1):
        assert_pooled(int(users[day]), counts[0, :, day], int(users[day]), counts[1, :, day], z[:, day])
    return users, z


def ever(statistics: Array, limits: Any) -> int:
    """In how many experiments |statistic| reaches the limit of some look."""
    return int((np.abs(statistics) >= np.asarray(limits)).any(axis=1).sum())


def always_valid(users: Any, planned: int) -> Array:
    """Our critical value at each look, of so many users in both arms together."""
    return np.array([always_valid_critical_value(int(n), ALPHA, planned) for n in users])


def revenue(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    """Five of a hundred users buy, for lognormal(3, 1.2): the skewed values of statistics.md 2.2."""
    values = np.zeros(size)
    buys = rng.random(size, dtype=np.float32) < 0.05
    values[buys] = rng.lognormal(3.0, 1.2, int(buys.sum()))
    return values


def c1(size: Size) -> Iterator[Row]:
    """One look at the planned end."""
    runs = size.runs(20_000)
    z = np.abs(daily(runs, 0.05)[1][:, -1])
    yield Row(exactly("C1", "pooled z, one look at 28,000 per arm", int((z >= CRITICAL).sum()), runs, ALPHA))
    one_sided = int((z >= normal_critical_value(2 * ALPHA)).sum())
    yield Row(exactly("C1", "one-sided quantile for a two-sided test", one_sided, runs, ALPHA), control=True)


def c2(size: Size) -> Iterator[Row]:
    """Peeking with the fixed test: the broken practice itself."""
    runs = size.runs(20_000)
    naive = ever(daily(runs, 0.05)[1], CRITICAL)
    yield Row(at_most("C2", "fixed test peeked at on 28 days (more than 20 %)", naive, runs, 0.20), control=True)
    runs, horizon = size.runs(2_000), 10_000 if size.is_full else 1_000
    naive = sum(ever(z, CRITICAL) for _, z in continuous("conversion 5 %", runs, horizon))
    yield Row(at_most("C2", f"peeked at after every user, {2 * horizon:,} users", naive, runs, 0.20), control=True)


def c3(size: Size) -> Iterator[Row]:
    """The always-valid test, watched daily and after every single user."""
    runs = size.runs(20_000)
    for rate in (0.05, 0.005):
        users, z = daily(runs, rate)
        limits = always_valid(2 * users, 10_000)
        for day in (0, DAYS - 1):
            verdicts = [
                always_valid_p_value(v, 2 * int(users[day]), ALPHA, 10_000) <= ALPHA for v in z[:COMPARED, day].tolist()
            ]
            assert verdicts == (np.abs(z[:COMPARED, day]) >= limits[day]).tolist()
        yield Row(at_most("C3", f"always-valid, conversion {rate:.1%}, 28 days", ever(z, limits), runs, ALPHA))
    for kind in ("normal", "revenue"):
        found = sum(ever(t, limits) for t, limits in daily_means(kind, runs))
        yield Row(at_most("C3", f"always-valid, {kind}, 28 days", found, runs, ALPHA))
    runs, horizon = size.runs(4_000), 10_000 if size.is_full else 1_000
    limits = always_valid(range(2, 2 * horizon + 1, 2), horizon)
    for kind in ("conversion 5 %", "conversion 0.5 %", "normal", "revenue"):
        found = misled = 0
        for gated, z in continuous(kind, runs, horizon):
            found += ever(np.where(gated, z, 0.0), limits)
            misled += ever(z, CRITICAL)
        yield Row(at_most("C3", f"always-valid, {kind}, after every user", found, runs, ALPHA))
        yield Row(at_most("C3", f"fixed test, {kind}, after every user", misled, runs, ALPHA), control=True)


def daily_means(kind: str, runs: int) -> Iterator[tuple[Array, Array]]:
    """Welch's t by day in parts of the runs, 0 where our gate has no say yet, and the always-valid limits."""
    rng = np.random.default_rng(303)
    users = PER_DAY * np.arange(1, DAYS + 1)
    limits = always_valid(2 * users, 10_000)
    for start in range(0, runs, 500):
        part = min(500, runs - start)
        sums, active = day_sums(rng, kind, part)
        t, freedom = welch(users, sums[0, 0], sums[0, 1], users, sums[1, 0], sums[1, 1])
        if start == 0:
            assert_welch(int(users[-1]), int(users[-1]), sums[:, :, :, -1], t[:, -1], freedom[:, -1])
        yield np.where((active >= NON_ZERO_USERS).all(axis=0), t, 0.0), limits


def day_sums(rng: np.random.Generator, kind: str, runs: int) -> tuple[Array, NDArray[np.int64]]:
    """Running sums and sums of squares, (arm, S or Q, run, day), and users with a value, (arm, run, day)."""
    shape = (2, runs, DAYS)
    if kind == "normal":
        # A day's sum is normal, and its squared deviations from the day's mean are chi-squared.
        day = rng.normal(0.0, math.sqrt(PER_DAY), shape)
        squares = rng.chisquare(PER_DAY - 1, shape) + day * day / PER_DAY
        sums = np.stack([day, squares], axis=1).cumsum(axis=3)
        return sums, np.broadcast_to(PER_DAY * np.arange(1, DAYS + 1), shape).astype(np.int64)
    buyers = rng.binomial(PER_DAY, 0.05, shape)
    values = rng.lognormal(3.0, 1.2, int(buyers.sum()))
    ends = buyers.ravel().cumsum()
    edges = np.concatenate([[0], ends])
    sums = np.stack(
        [np.diff(np.concatenate([[0.0], power.cumsum()])[edges]).reshape(shape) for power in (values, values * values)],
        axis=1,
    )
    return sums.cumsum(axis=3), buyers.cumsum(axis=2)


def continuous(kind: str, runs: int, horizon: int) -> Iterator[tuple[Any, Array]]:
    """The statistic after every pair of users, in parts of the runs, and where our gate lets it speak."""
    rng = np.random.default_rng(404)
    users = np.arange(1, horizon + 1)
    for start in range(0, runs, 100):
        shape = (2, min(100, runs - start), horizon)
        if kind.startswith("conversion"):
            rate = float(kind.split()[1]) / 100
            counts = (rng.random(shape, dtype=np.float32) < rate).cumsum(axis=2)
            yield True, pooled_z(users, counts[0], users, counts[1])
            continue
        values = rng.normal(size=shape) if kind == "normal" else revenue(rng, shape)
        sums, squares = values.cumsum(axis=2), (values * values).cumsum(axis=2)
        gated = ((values != 0.0).cumsum(axis=2) >= NON_ZERO_USERS).all(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            t, _ = welch(users, sums[0], squares[0], users, sums[1], squares[1])
        yield gated, t


def c4(size: Size) -> Iterator[Row]:
    """The always-valid test of rare conversions in a 90/10 split."""
    runs, planned = size.runs(20_000), 5_000
    rng = np.random.default_rng(4)
    day = np.arange(1, DAYS + 1)
    x0, x1 = rng.binomial(900, 0.01, (runs, DAYS)).cumsum(axis=1), rng.binomial(100, 0.01, (runs, DAYS)).cumsum(axis=1)
    limits = always_valid(1_000 * day, planned)
    z = pooled_z(900 * day, x0, 100 * day, x1)
    assert_pooled(900 * DAYS, x0[:, -1], 100 * DAYS, x1[:, -1], z[:, -1])
    yield Row(at_most("C4", "always-valid, 90/10, conversion 1 %: pooled", ever(z, limits), runs, ALPHA))
    broken = ever(unpooled_z(900 * day, x0, 100 * day, x1), limits)
    yield Row(at_most("C4", "always-valid, 90/10, conversion 1 %: unpooled", broken, runs, ALPHA), control=True)


def c5(size: Size) -> Iterator[Row]:
    """Planned looks on 28 days."""
    runs = size.runs(20_000)
    _, z = daily(runs, 0.05)
    fractions = tuple(day / DAYS for day in range(1, DAYS + 1))
    for family in (Spending.OBRIEN_FLEMING, Spending.POCOCK):
        found = ever(z, boundaries(fractions, ALPHA, family))
        yield Row(exactly("C5", f"{family}, 28 looks", found, runs, ALPHA))
        steps = np.diff([0.0, *(spent(t, ALPHA, family) for t in fractions)])
        found = ever(z, -ndtri(steps / 2))
        yield Row(exactly("C5", f"{family}, looks taken for independent", found, runs, ALPHA), control=True)


def c6(size: Size) -> Iterator[Row]:
    """Planned for 14 days and looked at on 28."""
    runs = size.runs(20_000)
    _, z = daily(runs, 0.05)
    seen: tuple[float, ...] = ()
    tested = []
    for day in range(DAYS):
        grown = looks_up_to(seen, (day + 1) / 14)
        tested += [day] if grown != seen else []
        seen = grown
    planned = boundaries(seen, ALPHA)
    yield Row(exactly("C6", "looked at beyond the plan's end", ever(z[:, tested], planned), runs, ALPHA))
    rescaled = [boundaries(tuple(day / end for day in range(1, end + 1)), ALPHA)[-1] for end in range(15, DAYS + 1)]
    found = ever(z, (*planned, *rescaled))
    yield Row(exactly("C6", "information re-scaled to the overrun", found, runs, ALPHA), control=True)
