"""Loss of events per arm: rates, intervals, the alarm that holds at every look, and what is said where nothing is lost."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from upshot import eventloss, experiments, statistics
from upshot.aggregation import Aggregates, Cell, Delivery
from upshot.arms import Arms
from upshot.clock import FixedClock
from upshot.eventloss import event_loss
from upshot.experiments import Draft, Experiment
from upshot.report import EventLossHealth
from upshot.statistics import Comoments, Moments
from upshot.statistics.calibration import binomial_band
from upshot.variants import VariantDraft

LOOKS = 28
SIMULATIONS = 100
Loss = tuple[float, float]  # the share of users on a bad connection, and what these lose
NONE: Loss = (0.0, 0.0)
BAD: Loss = (0.05, 0.4)  # 2 % in all


def experiment_of(*split: int) -> Experiment:
    """An experiment whose variants are called by letters, control first."""
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    drafts = [VariantDraft("abc"[place], weight=Decimal(weight)) for place, weight in enumerate(split)]
    return experiments.create(Draft("Loss", drafts), clock.now(), clock.new_id)


def judged(experiment: Experiment, found: Mapping[Cell, Delivery], alpha: float = 0.05) -> EventLossHealth:
    """What is said of deliveries, which there are."""
    exposed = {cell: part.moments.n for cell, part in found.items()}
    loss = event_loss(Arms(experiment, Aggregates(exposed, delivery=found)), alpha)
    assert loss is not None
    return loss


def delivered(*users: tuple[int, int]) -> Delivery:
    """Of (lost, sent) of each user."""
    return Delivery(Comoments.of(users), sum(lost > 0 for lost, _ in users))


def growing(rng: np.random.Generator, per_look: int, loss: Loss) -> list[Delivery]:
    """An arm at every look: users differ much in how many events they send, and lose none or many of them."""
    users = per_look * LOOKS
    sent = 1.0 + rng.poisson(rng.gamma(1.0, 20.0, users))
    lost = rng.binomial(sent.astype(int), np.where(rng.random(users) < loss[0], loss[1], 0.0)).astype(float)
    sums = [
        np.cumsum(column)[per_look - 1 :: per_look]
        for column in (lost, sent, lost * lost, lost * sent, sent * sent, lost > 0)
    ]
    found = []
    for look, (one, two, one_one, one_two, two_two, losing) in enumerate(zip(*sums, strict=True), 1):
        n = per_look * look
        m2 = [[one_one - one * one / n, one_two - one * two / n], [one_two - one * two / n, two_two - two * two / n]]
        found.append(Delivery(Comoments(n, (one / n, two / n), (tuple(m2[0]), tuple(m2[1]))), int(losing)))
    return found


def alarms(split: tuple[int, int], losses: tuple[Loss, Loss], simulations: int = SIMULATIONS) -> int:
    """How many simulated experiments, with so many users of each variant a day, ever alarm."""
    experiment, rng, alarming = experiment_of(*split), np.random.default_rng(1), 0
    for _ in range(simulations):
        arms = [growing(rng, users, loss) for users, loss in zip(split, losses, strict=True)]
        looks = zip(*arms, strict=True)
        alarming += any(not judged(experiment, {Cell(0, 1): one, Cell(1, 1): other}).ok for one, other in looks)
    return alarming


def of_events(control: Comoments, treatment: Comoments) -> list[tuple[Moments, Moments]]:
    """A mutant: every event counts for itself, as if those of one user did not depend on each other."""
    first, second = (
        Moments.binomial(round(arm.n * arm.means[1]), round(arm.n * arm.means[0])) for arm in (control, treatment)
    )
    return [(first, second)]


def of_each_arm(control: Comoments, treatment: Comoments) -> list[tuple[Moments, Moments]]:
    """A mutant: each arm has the variance that it shows, of however few losses."""
    first, second = (statistics.ratio_arm(arm) for arm in (control, treatment))
    return [(first, second)] if first and second else []


SPLITS = [(100, 100), (490, 10)]
MOST = binomial_band(SIMULATIONS, statistics.ALERT).count_high


@pytest.mark.parametrize("split", SPLITS)
def test_arms_that_lose_alike_hardly_ever_alarm_however_often_one_looks(split: tuple[int, int]) -> None:
    """Clustered losses of 2 %, seen at 28 looks, in equal and in unequal splits: one experiment of a thousand may alarm."""
    assert alarms(split, (BAD, BAD)) <= MOST


@pytest.mark.parametrize(("mutant", "split"), [(of_events, SPLITS[0]), (of_each_arm, SPLITS[1])])
def test_tests_that_alarm_too_often_are_noticed(
    monkeypatch: pytest.MonkeyPatch, mutant: Callable[..., object], split: tuple[int, int]
) -> None:
    """With events as units, or with each arm's own variance, the same simulation alarms more often than chance explains."""
    monkeypatch.setattr(eventloss, "_rates", mutant)

    assert alarms(split, (BAD, BAD)) > MOST


def test_a_loss_in_one_arm_only_is_found() -> None:
    """2 % against nothing, of 2,800 users a variant: nearly always."""
    assert alarms(SPLITS[0], (NONE, BAD), simulations=20) >= 18


def test_rates_are_sums_over_sums_with_users_as_units() -> None:
    """Lost of sent over all users; the interval is that of the delta method, within 0 and 1."""
    control = delivered(*[(0, 10)] * 150, *[(5, 20)] * 50)
    loss = judged(experiment_of(1, 1), {Cell(0, 1): control, Cell(1, 1): delivered((0, 3), (1, 1))})

    found = loss.variants["a"]
    assert (found.lost, found.sent) == (250, 2_500)
    assert found.rate == pytest.approx(0.1)
    assert found.interval is not None
    residuals = np.array([-1.0] * 150 + [3.0] * 50) / 12.5  # (lost - rate * sent) / mean of sent
    reach = 1.971957 * residuals.std(ddof=1) / np.sqrt(200)  # Student's t, 199 degrees of freedom
    assert found.interval.lower == pytest.approx(0.1 - reach, rel=1e-6)
    assert found.interval.upper == pytest.approx(0.1 + reach, rel=1e-6)
    assert loss.variants["b"].interval is not None
    assert (loss.variants["b"].interval.lower, loss.variants["b"].interval.upper) == (0.0, 1.0)


def test_where_nothing_is_lost_all_is_well() -> None:
    """Rates are 0, nothing is compared, nothing alarms; and where nobody numbers events there is nothing to say."""
    loss = judged(experiment_of(1, 1, 1), {Cell(place, 1): delivered(*[(0, 7)] * 300) for place in (0, 1)})

    assert loss.ok is True
    assert [(v.lost, v.sent, v.rate, v.interval) for v in loss.variants.values()] == [
        (0, 2_100, 0.0, None),
        (0, 2_100, 0.0, None),
        (0, 0, None, None),
    ]
    assert [(c.variant, c.difference, c.p_value, c.always_valid_p_value, c.reason) for c in loss.comparisons] == [
        ("b", 0.0, None, None, "zero_variance"),
        ("c", None, None, None, "no_users"),
    ]
    assert event_loss(Arms(experiment_of(1, 1), Aggregates({Cell(0, 1): 5})), 0.05) is None


@pytest.mark.parametrize(("losing", "reason"), [(99, "too_few"), (100, None)])
def test_no_alarm_rests_on_fewer_than_100_users_who_lost_any(losing: int, reason: str | None) -> None:
    """Of both arms together: an arm that loses nothing must not hide the other's loss."""
    treatment = delivered(*[(4, 10)] * losing, *[(0, 10)] * (500 - losing))
    loss = judged(experiment_of(1, 1), {Cell(0, 1): delivered(*[(0, 10)] * 500), Cell(1, 1): treatment})

    [found] = loss.comparisons
    assert (found.reason, found.always_valid_p_value is None, loss.ok) == (
        reason,
        reason is not None,
        reason is not None,
    )
    assert found.p_value is not None
    assert found.p_value < 1e-9


def test_phases_of_different_allocation_are_compared_within_themselves() -> None:
    """Everybody lost more in the second phase, in which most users have the treatment: no difference between the variants."""
    calm, stormy = [(0, 10)] * 95 + [(2, 10)] * 5, [(0, 10)] * 5 + [(2, 10)] * 5
    found = {
        Cell(0, 1): delivered(*calm * 20),
        Cell(1, 1): delivered(*calm * 2),
        Cell(0, 2): delivered(*stormy * 20),
        Cell(1, 2): delivered(*stormy * 200),
        Cell(1, 3): delivered(*stormy),
    }
    pooled: dict[Cell, Delivery] = {}
    for cell, part in found.items():
        first = pooled.get(Cell(cell.variant, 1), Delivery(Comoments(), 0))
        together = Delivery(first.moments + part.moments, first.losing + part.losing)
        pooled[Cell(cell.variant, 1)] = together

    assert judged(experiment_of(1, 1), found).ok is True
    assert judged(experiment_of(1, 1), found).comparisons[0].difference == pytest.approx(0.0, abs=1e-12)
    assert judged(experiment_of(1, 1), pooled).ok is False


def test_the_alarm_is_corrected_over_the_variants() -> None:
    """A p-value between .0005 and .001 alarms alone, and not as one of two questions."""
    control = delivered(*[(0, 10)] * 400, *[(1, 10)] * 100)
    lossy = delivered(*[(0, 10)] * 330, *[(1, 10)] * 170)
    two = judged(experiment_of(1, 1), {Cell(0, 1): control, Cell(1, 1): lossy})
    three = judged(experiment_of(1, 1, 1), {Cell(0, 1): control, Cell(1, 1): lossy, Cell(2, 1): control})

    watched = two.comparisons[0].always_valid_p_value
    assert watched is not None
    assert statistics.ALERT / 2 < watched < statistics.ALERT
    assert (two.ok, three.ok) == (False, True)
    assert three.comparisons[0].adjusted_p_value == pytest.approx(2 * watched)
