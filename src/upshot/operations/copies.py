"""What the cache keeps: experiments, the assignments of users, and whose linked ids are."""

from upshot.assignment import Assignment
from upshot.cache import Codec, Kind
from upshot.experiments import Experiment

FRESH = 1.0
"""Seconds after which a process looks again; a copy on a server is at most as old. So every process sees a change within two."""


def _later(held: Experiment, found: Experiment) -> Experiment:
    return held if held.id == found.id and held.version > found.version else found


def _exposed(held: Assignment, found: Assignment) -> Assignment:
    return held if held.exposed_at is not None and found.exposed_at is None else found


EXPERIMENT = Kind("experiment", Codec(Experiment), seconds=0.9 * FRESH, newer=_later, fresh=FRESH)
"""By (id or key). With its ± 10 % a server keeps it for at most a second."""

ASSIGNMENT = Kind("assignment", Codec(Assignment), seconds=86_400.0, newer=_exposed)
"""By (user, id of the experiment). It never changes, but for `exposed_at`, once: a copy without it has the right variant."""

IDENTITY = Kind("identity", Codec(str), seconds=86_400.0, newer=lambda _held, found: found)
"""By (id): the user whom it is linked to, for good."""

LEFT_OUT = Kind("left-out", Codec(bool), seconds=86_400.0, newer=lambda _held, found: found)
"""By (user, id of the experiment): an override was shown to somebody who had entered, and who counts no longer."""
