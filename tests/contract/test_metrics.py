"""Every kind of metric, on every event store, against the plain reference: windows, filters, covariates, caps, order, funnels."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from tests import reference
from tests.contract.test_eventstore import END, HOUR, START, fresh, skewness, store

from upshot import targeting
from upshot.aggregation import Aggregates, AggregationPlan, Measured, Period
from upshot.events import Event, Exposure
from upshot.eventstore import EventStore
from upshot.metrics import Fold, Kind, Metric, Quantity, Source, Unit, Winsorising
from upshot.statistics.comoments import Comoments
from upshot.statistics.moments import Moments

__all__ = ["fresh", "store"]

IN_EUROPE = targeting.parse({"any": [{"attribute": "land", "operator": "in", "value": ["de", "fr"]}]})
NEW = targeting.parse({"attribute": "app", "operator": "semver_gte", "value": "2.0.0"})
DEAR = targeting.parse({"not": {"attribute": "price", "operator": "lt", "value": 10}})
VIEW, BUY = ("view",), ("buy",)

METRICS = (
    Metric("bought", Kind.CONVERSION, BUY),
    Metric("bought soon", Kind.CONVERSION, BUY, window=24 * HOUR),
    Metric("bought here", Kind.CONVERSION, BUY, where=IN_EUROPE),
    Metric("bought new", Kind.COUNT, BUY, where=NEW),
    Metric("back", Kind.RETENTION, ("view", "buy"), delay=10 * HOUR, window=20 * HOUR, complete=True),
    Metric("spent", Kind.SUM, BUY, value="price", where=DEAR),
    Metric("spent, cut", Kind.SUM, BUY, winsorising=Winsorising(10, 90)),
    Metric("spent, cut above zero", Kind.SUM, BUY, winsorising=Winsorising(None, 80, ignore_zeros=True)),
    Metric("views, cut", Kind.COUNT, VIEW, winsorising=Winsorising(30, None)),
    Metric("order value", Kind.MEAN, BUY, value="price"),
    Metric("views per order", Kind.RATIO, VIEW, of=Fold.COUNT, denominator=Quantity(Fold.SUM, Source(BUY, IN_EUROPE, "price"))),
    Metric("big spender", Kind.THRESHOLD, BUY, of=Fold.SUM, amount=60.0),
    Metric("price, 90 %", Kind.QUANTILE, BUY, value="price", amount=0.9),
    Metric("views, median", Kind.QUANTILE, VIEW, of=Fold.COUNT, amount=0.5, unit=Unit.USER),
    Metric("funnel", Kind.FUNNEL, steps=(Source(VIEW), Source(VIEW, IN_EUROPE), Source(("buy", "view"))), window=50 * HOUR),
    Metric("age", Kind.SUM, BUY, covariate="age"),
    Metric("unseen", Kind.FUNNEL, steps=(Source(VIEW), Source(("never",)))),
)  # fmt: skip
BARE = AggregationPlan(1, METRICS, None, END)
PLANS: Mapping[str, AggregationPlan] = {
    "bare": BARE,
    "window": replace(BARE, start=START + 20 * HOUR, end=START + 70 * HOUR),
    "covariates": replace(BARE, covariates=True),
    "covariates in a window": replace(BARE, start=START + 20 * HOUR, covariates=True),
    "periods": replace(
        BARE, periods=tuple(Period(START + n * 10 * HOUR, START + (n + 1) * 10 * HOUR) for n in range(10))
    ),
    "two attributes": replace(BARE, segments=("country", "age"), covariates=True),
    "beside another experiment": replace(BARE, beside=2),
    "entry": replace(BARE, metrics=METRICS[:-2], entry=("view",), start=START, covariates=True),
    "one at a time": replace(BARE, metrics=METRICS[3:4], covariates=True),
}


class World:
    """Users of two experiments with contexts, and events with properties, many of them on the edge of a rule."""

    def __init__(self, seed: int, users: int = 150, events: int = 2_500) -> None:
        chance = random.Random(seed)
        self.contexts: dict[str, dict[str, Any]] = {
            f"u{n}": {"country": chance.choice(["US", "DE", None]), "age": chance.choice([20, 35.5, None, "40"])}
            for n in range(users)
        }
        self.exposures = [
            Exposure("one", experiment, user, chance.randrange(2), 1 + chance.randrange(2),
                     START + chance.randrange(60) * HOUR, json.dumps(self.contexts[user]))
            for experiment in (1, 2) for user in self.contexts if chance.random() < 0.85
        ]  # fmt: skip
        exposed = {(e.experiment, e.user_id): e.exposed_at for e in self.exposures}
        self.events: list[tuple[str, Event]] = []
        for number in range(events):
            user = f"u{min(int(chance.expovariate(0.02)), users - 1)}"
            when = START + chance.randrange(-30 * 3600, 110 * 3600) * 1_000_000
            if chance.random() < 0.3:
                edge = chance.choice([-24, -1, 0, 10, 24, 30, 50]) * HOUR + chance.choice([-1, 0, 1])
                when = exposed.get((1, user), START) + edge
            price = chance.choice(
                [None, 5, 9.99, 10, 25.5, 1e6 * chance.random(), -3, "12", [1], round(chance.lognormvariate(3, 1), 2)]
            )
            app = chance.choice(["1.9", "2.0.0", "2.1-rc", "x"])
            properties = {"price": price, "land": chance.choice(["de", "fr", "us", None, "DE"]), "app": app}
            own = chance.choice([None, 0.0, 7.5, -1.0, 1e4 * chance.random()])
            text = json.dumps(properties)
            kind = chance.choice(["view", "view", "buy"])
            self.events.append(("one", Event(f"e{number}", user, kind, when, when, own, text, None, 0, number)))

    async def fill(self, store: EventStore) -> None:
        """Append everything."""
        await store.expose(self.exposures)
        await store.append("one", [event for _, event in self.events])

    def expected(self, plan: AggregationPlan, counts: reference.Rule = reference.at_or_after) -> reference.Expected:
        """What the reference says."""
        return reference.aggregate("one", plan, self.exposures, self.events, self.contexts, counts)


def problems(found: Aggregates, expected: reference.Expected) -> list[str]:
    """Where the two differ."""
    wrong = [] if dict(found.exposed) == expected.exposed else ["exposed"]
    eligible = {key: users for key, users in found.eligible.items() if users}
    wrong += [] if eligible == {key: users for key, users in expected.eligible.items() if users} else ["eligible"]
    for key in found.measured.keys() | expected.measured.keys():
        users = expected.exposed.get(key[0], 0)
        ours, theirs = (_comparable(part.measured.get(key), users) for part in (found, expected))
        if ours[:-1] != theirs[:-1] or ours[-1] != pytest.approx(theirs[-1], rel=1e-6, abs=1e-6):
            wrong.append(f"{key}: {ours} instead of {theirs}")
    return wrong


def _comparable(measured: Measured | None, users: int) -> Any:
    measured = measured or Measured(0, 0, 0.0, Moments())
    joint = measured.joint
    if joint is not None:
        zeros = ((0.0,) * len(measured.silent),) * len(measured.silent)
        joint += Comoments(max(users - joint.n, 0), measured.silent, zeros)
    numbers = [measured.total, measured.moments.mean, measured.moments.m2, *measured.silent]
    numbers += [] if measured.third is None else [skewness(measured) or 0.0]
    if joint is not None and any(joint.means):
        scale = [max(joint.m2[place][place], 1e-9) ** 0.5 for place in range(len(joint.means))]
        numbers += [*joint.means]
        numbers += [m2 / scale[i] / scale[j] for i, row in enumerate(joint.m2) for j, m2 in enumerate(row)]
        numbers += scale
    ordered = measured.ordered
    if ordered is not None:
        numbers += [*ordered.found]
        if ordered.below is not None:
            numbers += [*ordered.below.means, *(m2 for row in ordered.below.m2 for m2 in row)]
    steps = measured.steps if any(measured.steps) else ()
    order = (ordered.values, ordered.users, ordered.ranks) if ordered else None
    return measured.users, measured.events, measured.moments.n, steps, order, numbers


@cache
def world_of(seed: int) -> World:
    """A world, the same one for every store."""
    return World(seed)


@cache
def expected_of(seed: int, name: str) -> reference.Expected:
    """What the reference says of a plan in a world: the same for every store."""
    return world_of(seed).expected(PLANS[name])


async def test_every_kind_equals_the_reference(store: EventStore) -> None:
    """In every breakdown."""
    await world_of(1).fill(store)

    for name, plan in PLANS.items():
        assert not problems(await store.aggregate("one", plan), expected_of(1, name)), name


CHANGES: Mapping[str, Mapping[str, Any]] = {
    "bought soon": {"window": 24 * HOUR + 1},
    "bought here": {"where": None},
    "bought new": {"where": targeting.parse({"attribute": "app", "operator": "semver_gt", "value": "2.0.0"})},
    "back": {"complete": False},
    "spent": {"value": None},
    "spent, cut": {"winsorising": Winsorising(10, 91)},
    "spent, cut above zero": {"winsorising": Winsorising(None, 80)},
    "order value": {"kind": Kind.RATIO, "of": Fold.SUM, "denominator": Quantity(Fold.COUNT, Source(BUY))},
    "big spender": {"amount": 61.0 * 1e3},
    "price, 90 %": {"amount": 0.91},
    "views, median": {"unit": Unit.EVENT, "of": Fold.SUM},
    "funnel": {"steps": METRICS[14].steps[::-1]},
    "bought": {"lookback": 24 * HOUR},
    "age": {"covariate": None},
}


@cache
def broken_of(seed: int, key: str | None) -> reference.Expected:
    """What a broken variant of a metric's rule would say; of None, one that counts only what happened after the exposure."""
    plan = PLANS["covariates"]
    if key is None:
        return world_of(seed).expected(plan, lambda event, exposure: event.occurred_at > exposure.exposed_at)
    [metric] = [replace(metric, **CHANGES[key]) for metric in METRICS if metric.key == key]
    return world_of(seed).expected(replace(plan, metrics=(metric,)))


async def test_wrong_rules_are_told_from_the_right_ones(store: EventStore) -> None:
    """The comparison catches broken variants of every rule that a metric can make."""
    await world_of(3).fill(store)
    found = await store.aggregate("one", PLANS["covariates"])

    assert not problems(found, expected_of(3, "covariates"))
    assert problems(found, broken_of(3, None))
    for changed in CHANGES:
        mine = {key: measured for key, measured in found.measured.items() if key[1] == changed}
        eligible = {key: users for key, users in found.eligible.items() if key[1] == changed}
        assert problems(replace(found, measured=mine, eligible=eligible), broken_of(3, changed)), changed


async def test_what_accumulates_equals_what_is_counted_up_to_then(store: EventStore) -> None:
    """At the end of every period, in every cell: the same moments as a result of that moment has."""
    await world_of(5).fill(store)
    plan = replace(PLANS["periods"], cumulative=True, segments=("country",))
    found = await store.aggregate("one", plan)
    for index, period in enumerate(plan.periods):
        last = index == len(plan.periods) - 1
        then = await store.aggregate("one", replace(BARE, end=period.end, segments=plan.segments))
        assert {
            cell._replace(period=None): n for cell, n in found.exposed.items() if cell.period == index and n
        } == then.exposed
        for metric in plan.accumulated:
            if metric.winsorising and not last:
                continue  # caps are those of the whole window
            for cell, users in then.exposed.items():
                ours = found.measured[cell._replace(period=index), metric.key]
                active = then.measured.get((cell, metric.key), Measured(0, 0, 0.0, Moments())).users
                assert ours.users == active or not metric.is_share
                theirs = then.measured.get((cell, metric.key), Measured(0, 0, 0.0, Moments(), ours.silent))
                if metric.is_ratio:
                    assert ours.joint is not None
                    joint = (theirs.joint or Comoments.empty(2)).padded(users)
                    for place in (0, 1):
                        assert ours.joint.means[place] == pytest.approx(joint.means[place], rel=1e-6, abs=1e-9)
                    numbers, others = ([m2 for row in side.m2 for m2 in row] for side in (ours.joint, joint))
                    assert numbers == pytest.approx(others, rel=1e-6, abs=1e-6 * max(map(abs, others)))
                else:
                    silent = Moments(users - theirs.moments.n, 0.0 if metric.is_share else theirs.silent[0])
                    moments = theirs.moments + silent
                    assert ours.moments.mean == pytest.approx(moments.mean, rel=1e-6, abs=1e-9), (metric.key, index)
                    assert ours.moments.m2 == pytest.approx(moments.m2, rel=1e-6, abs=1e-6), (metric.key, index)


async def test_rows_have_every_number_of_a_user(store: EventStore) -> None:
    """What an export streams adds up to what is aggregated."""
    await world_of(4).fill(store)
    plan = PLANS["covariates"]
    names = plan.exported
    rows = [row async for batch in store.rows("one", plan) for row in batch]
    found = await store.aggregate("one", plan)
    assert len(rows) == sum(found.exposed.values())
    for cell in found.exposed:
        mine = [row[5:] for row in rows if (row[1], row[2]) == (cell.variant, cell.phase)]
        for key in ("bought", "funnel", "big spender"):
            assert sum(row[names.index(key)] for row in mine) == found.measured[cell, key].users, key
        joint = found.measured[cell, "views per order"].joint
        assert joint is not None
        for place, ending in enumerate(("", ".denominator", ".before", ".before_denominator")):
            column = names.index("views per order" + ending)
            assert sum(float(row[column]) for row in mine) == pytest.approx(joint.n * joint.means[place])
