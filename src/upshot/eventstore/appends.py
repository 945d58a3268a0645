"""What callers append, and how those who wait at the same moment share one commit; the same for every event store."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from upshot.events import Event, Exposure
from upshot.eventstore import Verdict
from upshot.eventstore.keys import Keys
from upshot.groupcommit import GroupCommit

WAITING_ROWS = 100_000

Item = TypeVar("Item")
EventType = tuple[str, str]  # client and name


@dataclass(frozen=True, slots=True)
class Append:
    """One caller's events, or exposures."""

    client: str
    events: Sequence[Event] = ()
    exposures: Sequence[Exposure] = ()

    def __len__(self) -> int:
        return len(self.events) + len(self.exposures)


class Appends:
    """The appending side of a store, for stores to inherit.

    Args:
        commit: makes a group durable; answers the verdicts of each append, of its events and then of its exposures.
        group_rows: how many rows a group may have.
        patience: how many seconds a caller waits; for ever by default.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Append]], Awaitable[Sequence[list[Verdict]]]],
        group_rows: int,
        patience: float | None = None,
    ) -> None:
        self._patience = patience
        self._group: GroupCommit[Append, list[Verdict]] = GroupCommit(
            commit, group_weight=group_rows, waiting_weight=WAITING_ROWS, weigh=len
        )

    async def append(self, client: str, events: Sequence[Event]) -> list[Verdict]:
        """Store the events that are new, in one commit with whoever else waits.

        Raises:
            Unavailable: too much is waiting and nothing was stored; or the store did not acknowledge in time, and the events
                may be stored: sent again they count once.
        """
        return await self._group.submit(Append(client, events=events), self._patience) if events else []

    async def expose(self, exposures: Sequence[Exposure]) -> int:
        """Store the exposures that are new; how many were."""
        if not exposures:
            return 0
        verdicts = await self._group.submit(Append("", exposures=exposures), self._patience)
        return sum(verdict is Verdict.ACCEPTED for verdict in verdicts)


class Group:
    """The events and exposures of several callers, with their identities: events first."""

    def __init__(self, appends: Sequence[Append], keys_of: Callable[[str], Keys]) -> None:
        self._appends = appends
        self.events = [(append.client, event) for append in appends for event in append.events]
        self.exposures = [exposure for append in appends for exposure in append.exposures]
        self.event_ids = [keys_of(client).event(event.event_id) for client, event in self.events]
        self.exposure_ids = [keys_of(e.client).exposure(e.experiment, e.user_id) for e in self.exposures]
        self.fingerprints = [event.fingerprint for _, event in self.events] + [0] * len(self.exposures)

    @property
    def ids(self) -> list[bytes]:
        """The identities of everything."""
        return self.event_ids + self.exposure_ids

    @property
    def clients(self) -> set[str]:
        """Whose events and exposures these are."""
        return {exposure.client for exposure in self.exposures} | {client for client, _ in self.events}

    @property
    def types(self) -> set[EventType]:
        """Which types of events there are, with their clients."""
        return {(client, event.event_type) for client, event in self.events}

    def judge(self, known: Mapping[bytes, int]) -> list[Verdict]:
        """Which are new, which are stored under one of the known identities or come earlier in the same group."""
        verdicts: list[Verdict] = []
        seen = dict(known)
        for identity, fingerprint in zip(self.ids, self.fingerprints, strict=True):
            if identity not in seen:
                seen[identity] = fingerprint
                verdicts.append(Verdict.ACCEPTED)
            else:
                verdicts.append(Verdict.DUPLICATE if seen[identity] == fingerprint else Verdict.CONFLICT)
        return verdicts

    def parted(self, verdicts: Sequence[Verdict]) -> tuple[Sequence[Verdict], Sequence[Verdict]]:
        """The verdicts of the events, and those of the exposures."""
        return verdicts[: len(self.events)], verdicts[len(self.events) :]

    def answers(self, verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
        """Each caller's verdicts."""
        of_events, of_exposures = map(iter, self.parted(verdicts))
        return [
            [next(of_events) for _ in append.events] + [next(of_exposures) for _ in append.exposures]
            for append in self._appends
        ]

    def repeats(self, verdicts: Sequence[Verdict]) -> dict[EventType, tuple[int, int]]:
        """Duplicates, conflicts among them, of each type that came again."""
        repeated: dict[EventType, tuple[int, int]] = {}
        for (client, event), verdict in zip(self.events, self.parted(verdicts)[0], strict=True):
            if verdict is not Verdict.ACCEPTED:
                duplicates, conflicts = repeated.get((client, event.event_type), (0, 0))
                conflicts += verdict is Verdict.CONFLICT
                repeated[client, event.event_type] = duplicates + 1, conflicts
        return repeated


def new(items: Sequence[Item], verdicts: Sequence[Verdict]) -> list[Item]:
    """Those of the items whose verdict says that they were new."""
    return [item for item, verdict in zip(items, verdicts, strict=True) if verdict is Verdict.ACCEPTED]
