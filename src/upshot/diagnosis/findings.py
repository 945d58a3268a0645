"""From facts to findings: one rule each, with its words and its remedy."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from upshot.assignment import WHOLE
from upshot.diagnosis.facts import Facts
from upshot.diagnosis.model import Counts, Finding, Last, Severity
from upshot.diagnosis.names import Awaited
from upshot.events import SECOND
from upshot.experiments import Status
from upshot.targeting import EVERYBODY

AHEAD = 5 * 60 * SECOND
BEHIND = 24 * 3_600 * SECOND
QUIET = timedelta(days=1)
WAITING = timedelta(minutes=1)
STUCK = timedelta(minutes=10)
SOME = 0.05
"""The share from which on something that happens now and then is worth a warning."""
FEW = 0.01
"""The share of exposed users with an awaited event below which a warning asks whether that can be."""
MANY = 100
"""Exposed users from which on none with an event is no chance."""

Said = Iterator[Finding]


@dataclass(frozen=True, slots=True)
class Case:
    """The facts, and what follows from them."""

    facts: Facts
    awaited: Sequence[Awaited]
    counts: Counts
    last: Last

    @property
    def everyone(self) -> bool:
        """Whether everybody who comes is to be in the experiment."""
        experiment = self.facts.experiment
        narrowed = experiment.layers or experiment.holdouts or experiment.rule != EVERYBODY
        return experiment.traffic == WHOLE and not narrowed


def _status(case: Case) -> Said:
    experiment = case.facts.experiment
    if experiment.status is Status.DRAFT:
        yield _problem("not_running", "The experiment is a draft: nobody is assigned yet.", "Start it.")
    elif experiment.status is Status.PAUSED:
        yield _warning(
            "not_running",
            "The experiment is paused: users who are in keep their variant, nobody new comes in.",
            "Resume it to let new users in.",
        )
    elif experiment.status is not Status.RUNNING:
        yield _warning(
            "not_running",
            f"The experiment is {experiment.status}: what happened after its end is not counted.",
            "Create a new experiment to go on measuring.",
        )


def _completeness(case: Case) -> Said:
    complete_to = case.facts.complete_to
    waiting = case.facts.now - complete_to
    if waiting > WAITING:
        kind = _problem if waiting > STUCK else _warning
        yield kind(
            "behind",
            f"What came since {complete_to:%Y-%m-%d %H:%M:%S} UTC may still wait in the queue, or on the way to a replica.",
            "Look whether `upshot worker` runs and the queue empties.",
        )


def _assignments(case: Case) -> Said:
    if case.facts.experiment.status is Status.DRAFT:
        return
    if not (case.counts.assigned_users or case.counts.exposed_users):
        narrow = "" if case.everyone else " Its targeting, traffic, layers or holdouts may also leave everybody out."
        yield _problem(
            "no_assignments",
            f"No user has been assigned.{narrow}",
            "Ask for the variant of a user with the first of the three calls, and look at the `reason` of the answer.",
        )
    elif not case.counts.exposed_users:
        yield _problem(
            "no_exposures",
            f"{_users(case.counts.assigned_users)} assigned, but none was exposed: results count exposed users only.",
            "Ask for the assignment of one user where the variant is shown, or let the SDK send the exposure; answers for"
            " many users at once are no exposures.",
        )


def _events(case: Case) -> Said:
    if not case.facts.received:
        yield _problem("no_events", "No event of any type has come.", "Send one with the second of the three calls.")
        return
    for part in case.awaited:
        if part.near_misses:
            yield _mismatch(part)
    missing = [part for part in case.awaited if not part.events and not part.near_misses]
    if not missing:
        return
    names = _listed([part.event_type for part in missing])
    if not any(part.events for part in case.awaited):
        came = _listed([part.event_type for part in case.facts.received])
        yield _problem(
            "nothing_awaited_received",
            f"Metrics wait for {names}, of which none has come; what came is {came}.",
            "Send events of these names, or let the metrics wait for names that are sent.",
        )
    else:
        yield _warning(
            "awaited_not_received",
            f"Metrics wait for {names}, of which none has come.",
            "Send events of these names, or take out the metrics that nobody feeds.",
        )


def _mismatch(part: Awaited) -> Finding:
    sent = _listed([near.event_type for near in part.near_misses])
    number = sum(near.events for near in part.near_misses)
    one, names = len(part.metrics) == 1, _listed(part.metrics)
    waiting = f"{'metric' if one else 'metrics'} {names} {'waits' if one else 'wait'} for “{part.event_type}”"
    message = f"You send {sent} ({_events_of(number)}), the {waiting}"
    if part.events:
        message += f", of which {_events_of(part.events)} came: the others are not counted."
        return _warning("name_mismatch", message, "Use one name in every place that sends it.")
    remedy = f"Send “{part.event_type}”, or let the metric wait for the name that is sent."
    return _problem("name_mismatch", f"{message}.", remedy)


def _joining(case: Case) -> Said:
    counts = case.counts
    exposed, joined = counts.exposed_users, counts.joined_users
    if counts.users_before_exposure and (not joined or counts.users_before_exposure >= SOME * exposed):
        kind = _problem if not joined else _warning
        yield kind(
            "events_before_exposure",
            f"{_events_of(counts.events_before_exposure)} of {_users(counts.users_before_exposure)} happened before the user's"
            " exposure, and do not count.",
            "Ask for the assignment before the user can do what is measured, at the latest where the variant is shown.",
        )
    acting = counts.unknown_users + counts.users_before_exposure + joined
    if exposed and counts.unknown_users and (not joined or (case.everyone and counts.unknown_users >= SOME * acting)):
        kind = _problem if not joined else _warning
        yield kind(
            "unknown_users",
            f"{_events_of(counts.events_of_unknown_users)} came from {_users(counts.unknown_users)} who were never exposed"
            " here.",
            "Send the same user id with the event as with the assignment, or link the two ids with POST /identities.",
        )
    came = not case.awaited or any(part.events for part in case.awaited)
    if came and exposed >= MANY and joined < FEW * exposed:
        kind = _warning if joined else _problem
        yield kind(
            "low_join_rate",
            f"{joined:,} of {_users(exposed)} exposed ({joined / exposed:.2%}) have an awaited event at or after the exposure.",
            "Check with one user whose steps you know that the assignment comes first and both calls carry the same user id.",
        )


def _clocks(case: Case) -> Said:
    counts, arrivals = case.counts, case.facts.joined.arrivals
    known = [arrival.skew for arrival in arrivals if arrival.skew is not None]
    if counts.events_ahead_of_clock:
        yield _warning(
            "clock_ahead",
            f"{counts.events_ahead_of_clock:,} of the newest {_events_of(len(arrivals))} say a moment more than 5 minutes after"
            " they came.",
            "Set the clock of whatever sends them, or send `sent_at` with the batch, by which it is corrected.",
        )
    behind = sum(skew < -BEHIND for skew in known)
    if counts.late_events or (known and behind >= SOME * len(known)):
        yield _warning(
            "late_events",
            f"{behind:,} of the newest {_events_of(len(arrivals))} came more than a day after they happened, and of those that"
            f" count {counts.late_events:,} more than a week after.",
            "Send events when they happen; numbers of past days still grow until the last one is there.",
        )


def _health(case: Case) -> Said:
    health = case.facts.health
    if health.sample_ratio.ok is False:
        observed = ", ".join(f"{name} {users:,}" for name, users in health.sample_ratio.observed.items())
        yield _problem(
            "sample_ratio",
            f"Users did not arrive in the planned shares ({observed}): whoever is missing may be missing for a reason.",
            "Look for what loses users of one variant, such as a redirect or a crash, and start a new experiment after it.",
        )
    if health.crossovers:
        yield _warning(
            "crossovers",
            f"{_users(health.crossovers)} had more than one variant and are left out.",
            "Decide a user's variant in one place, and link ids before the signed-in user gets a variant.",
        )
    if health.conflicts:
        yield _warning(
            "event_conflicts",
            f"{_events_of(health.conflicts)} came under the id of another event and were dropped.",
            "Give every event an `event_id` of its own.",
        )
    came = sum(part.events for part in case.awaited)
    if came and health.duplicates >= SOME * came:
        yield _warning(
            "duplicates",
            f"{_events_of(health.duplicates)} came again and were counted once.",
            "Nothing is wrong in the numbers; look for what sends twice, as each one costs a request.",
        )


def _silence(case: Case) -> Said:
    facts, last = case.facts, case.last
    moments = [moment for moment in (last.assignment, last.exposure) if moment is not None]
    if facts.experiment.status is not Status.RUNNING or not moments or last.event is None:
        return
    for what, moment in (("assignment", max(moments)), ("event", last.event)):
        if facts.now - moment > QUIET:
            days = (facts.now - moment) / QUIET
            yield _warning(
                f"no_recent_{what}s",
                f"The last {what} is {days:.1f} days old.",
                f"Look whether the code that sends {what}s is still deployed.",
            )


RULES: tuple[Callable[[Case], Said], ...] = (
    _status,
    _completeness,
    _assignments,
    _events,
    _joining,
    _health,
    _clocks,
    _silence,
)
"""In the order in which a reader should mend things; the worst come first all the same."""


def all_well(case: Case) -> Finding:
    """What is said where no rule found anything."""
    counts = case.counts
    rate = "" if counts.join_rate is None else f", {counts.join_rate:.1%} of them with an awaited event"
    message = f"{_users(counts.exposed_users)} exposed{rate}; names, clocks and shares are as they should be."
    return Finding("all_well", Severity.OK, message, "There is nothing to do.")


def _problem(code: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.PROBLEM, message, remedy)


def _warning(code: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.WARNING, message, remedy)


def _users(number: int) -> str:
    return f"{number:,} user{'' if number == 1 else 's'}"


def _events_of(number: int) -> str:
    return f"{number:,} event{'' if number == 1 else 's'}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"“{name}”" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
