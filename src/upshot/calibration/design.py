"""What is simulated, and the experiment that it is: users a day, their split, the looks."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from upshot import experiments, lifecycle
from upshot.analysisplan import Stopping
from upshot.calibration.population import Population
from upshot.clock import FixedClock
from upshot.experiments import Draft, Experiment
from upshot.metrics import Role
from upshot.report import Look, Window
from upshot.results import Question
from upshot.statistics import boundaries, looks_up_to, nominal_levels
from upshot.variants import VariantDraft

ALPHA = 0.05
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ARMS = ("control", "treatment")


@dataclass(frozen=True, slots=True)
class Design:
    """Users a day, drawn from a population and divided by ``split`` into control and treatment, looked at every day.

    A ``ramp`` is the split of the first half of the days, a phase of its own. ``lift`` is that of the experiments with an
    effect, by default for each metric the one that the planned size finds in 80 % of experiments.
    """

    population: Population
    days: int = 14
    users_per_day: int = 1_000
    split: tuple[int, int] = (50, 50)
    ramp: tuple[int, int] | None = None
    lift: float | None = None
    simulations: int = 1_000
    seed: int = 2_026

    @property
    def users(self) -> int:
        """The planned size, which is reached on the last day."""
        return self.days * self.users_per_day

    @property
    def treatment_share(self) -> float:
        """The share of users, outside the ramp, who get the treatment."""
        return self.split[1] / sum(self.split)

    @property
    def phases(self) -> list[tuple[int, tuple[int, int]]]:
        """The first day (from 0) of each phase, and its split."""
        return [(0, self.split)] if self.ramp is None else [(0, self.ramp), (max(1, self.days // 2), self.split)]


def experiment_of(design: Design, stopping: Stopping) -> Experiment:
    """The experiment under a way of stopping, with all its phases."""
    clock = FixedClock(START)
    [(_, split), *later] = design.phases
    plan = {"stopping": str(stopping), "alpha": ALPHA, "planned_users": design.users}
    draft = Draft("Calibration", _arms(split), primary_metric=design.population.metrics[0].key, plan=plan)
    experiment = experiments.create(draft, START, clock.new_id)
    for day, changed in later:
        changes = {"variants": _arms(changed)}
        experiment = lifecycle.change(experiment, changes, START + day * DAY, clock.new_id, occupied=(0, 1))
    return experiment


def question_of(design: Design, day: int) -> Question:
    """The question that is asked at the end of a day: each metric by itself, so that nothing is corrected for others."""
    metrics = design.population.metrics
    now = START + day * DAY
    roles = dict(zip((metric.key for metric in metrics), (Role.PRIMARY, Role.SECONDARY), strict=False))
    return Question(metrics, roles, Window(START, now, "UTC", now), 1 - ALPHA)


def looks_of(design: Design, experiment: Experiment) -> Iterator[Look]:
    """The planned look at the end of each day."""
    fractions: tuple[float, ...] = ()
    for day in range(1, design.days + 1):
        fractions = looks_up_to(fractions, day / design.days)
        critical = boundaries(fractions, ALPHA, experiment.plan.spending)[-1]
        yield Look(START + day * DAY, list(fractions), critical, *nominal_levels((critical,)))


def _arms(split: tuple[int, int]) -> list[VariantDraft]:
    return [VariantDraft(name, weight=Decimal(weight)) for name, weight in zip(ARMS, split, strict=True)]
