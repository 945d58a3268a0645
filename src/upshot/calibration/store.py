"""The event store of a simulated experiment: who came on which day, and what it reports at the end of a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from upshot.aggregation import Aggregates, Cell, Measured
from upshot.calibration.design import START, Design
from upshot.calibration.population import Table, Urn
from upshot.events import micros


@dataclass(frozen=True, slots=True)
class Store:
    """The users of one experiment. ``arrived`` and ``sums`` are running: one row per day, and one of nothing before the first.

    ``urns`` are those that control and treatment were drawn from, ``starts`` the first day of each phase.
    """

    urns: tuple[Urn, Urn]
    arrived: NDArray[np.int64]
    sums: tuple[Table, Table]
    starts: tuple[int, ...]

    def aggregates(self, day: int) -> Aggregates:
        """What is reported at the end of a day, counted from 1: per arm and phase users, moments and events."""
        exposed: dict[Cell, int] = {}
        measured: dict[tuple[Cell, str], Measured] = {}
        edges = [start for start in self.starts if start < day]
        for phase, (start, end) in enumerate(pairwise([*edges, day]), start=1):
            for arm, urn in enumerate(self.urns):
                cell = Cell(arm, phase)
                users = int(self.arrived[end, arm] - self.arrived[start, arm])
                exposed[cell] = users
                found = urn.measured(users, self.sums[arm][end] - self.sums[arm][start])
                measured |= {(cell, key): numbers for key, numbers in found.items()}
        counts = {(cell, key): numbers.events for (cell, key), numbers in measured.items() if numbers.events}
        return Aggregates(exposed, measured=measured, event_counts=counts, first_exposure=micros(START))


def filled(design: Design, control: Urn, treated: Urn, rng: np.random.Generator) -> Store:
    """The store of an experiment whose users came and were divided by chance."""
    starts = [start for start, _ in design.phases]
    shares = np.empty(design.days)
    for start, (kept, changed) in design.phases:
        shares[start:] = changed / (kept + changed)
    second = rng.binomial(design.users_per_day, shares)
    daily = np.column_stack([design.users_per_day - second, second])
    urns = (control, treated)
    first, other = (urn.draw(daily[:, arm].tolist(), rng) for arm, urn in enumerate(urns))
    arrived = np.vstack([np.zeros((1, 2), dtype=np.int64), daily.cumsum(axis=0)])
    return Store(urns, arrived, (first, other), tuple(starts))


def everybody(urns: Sequence[Urn]) -> Aggregates:
    """What would be reported if each arm were the whole of its population."""
    cells = [Cell(arm, 1) for arm in range(len(urns))]
    measured = {
        (cell, key): numbers
        for cell, urn in zip(cells, urns, strict=True)
        for key, numbers in urn.measured(urn.users, urn.everybody()).items()
    }
    return Aggregates({cell: urn.users for cell, urn in zip(cells, urns, strict=True)}, measured=measured)
