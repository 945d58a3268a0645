"""What lists of the control store hold."""

from dataclasses import dataclass
from datetime import datetime

from upshot.experiments import Experiment
from upshot.metrics import Metric


@dataclass(frozen=True, slots=True)
class Page:
    """Experiments, and where the next page begins (None at the end)."""

    experiments: tuple[Experiment, ...]
    following: int | None


@dataclass(frozen=True, slots=True)
class Labels:
    """What lists of experiments can be narrowed by."""

    owners: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """A version of a metric's definition; since `archived_at` its key no longer means it."""

    metric: Metric
    created_at: datetime
    archived_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DefinitionPage:
    """Metric definitions, and where the next page begins (None at the end)."""

    definitions: tuple[Definition, ...]
    following: int | None
