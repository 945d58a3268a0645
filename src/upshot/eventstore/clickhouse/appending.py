"""What a group of callers appends at once: which of it is new, and the blocks that store that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from upshot.events import Event, Exposure
from upshot.eventstore import Verdict
from upshot.eventstore.clickhouse import blocks, schema
from upshot.eventstore.clickhouse.blocks import Block, KeysOf
from upshot.eventstore.clickhouse.dictionary import EventType, client_key, type_key

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Append:
    """One caller's events, or exposures."""

    client: str
    events: Sequence[Event] = ()
    exposures: Sequence[Exposure] = ()

    def __len__(self) -> int:
        return len(self.events) + len(self.exposures)


class Group:
    """The events and exposures of several callers, with their identities: events first."""

    def __init__(self, appends: Sequence[Append], keys_of: KeysOf) -> None:
        self._appends, self._keys_of = appends, keys_of
        self._events = [(append.client, event) for append in appends for event in append.events]
        self._exposures = [exposure for append in appends for exposure in append.exposures]
        self._event_ids = [keys_of(client).event(event.event_id) for client, event in self._events]
        self._exposure_ids = [keys_of(e.client).exposure(e.experiment, e.user_id) for e in self._exposures]
        self._marks = [event.fingerprint for _, event in self._events] + [0] * len(self._exposures)

    @property
    def ids(self) -> list[bytes]:
        """The identities of everything."""
        return self._event_ids + self._exposure_ids

    @property
    def clients(self) -> set[str]:
        """Who exposed."""
        return {exposure.client for exposure in self._exposures}

    @property
    def types(self) -> set[EventType]:
        """Which types of events there are, with their clients."""
        return {(client, event.event_type) for client, event in self._events}

    def judge(self, known: Mapping[bytes, int]) -> list[Verdict]:
        """Which are new, which are stored under one of the known identities or come earlier in the same group."""
        verdicts: list[Verdict] = []
        seen = dict(known)
        for identity, mark in zip(self.ids, self._marks, strict=True):
            if identity not in seen:
                seen[identity] = mark
                verdicts.append(Verdict.ACCEPTED)
            else:
                verdicts.append(Verdict.DUPLICATE if seen[identity] == mark else Verdict.CONFLICT)
        return verdicts

    def blocks(self, verdicts: Sequence[Verdict]) -> list[Block]:
        """What is new, in the order in which it must be inserted: what is stored but not known yet can come again."""
        made: list[Block] = []
        for_events, for_exposures = verdicts[: len(self._events)], verdicts[len(self._events) :]
        if events := _new(self._events, for_events):
            types = [type_key(client, event.event_type) for client, event in events]
            made.append(blocks.of_events(events, _new(self._event_ids, for_events), types, self._keys_of))
        if exposures := _new(self._exposures, for_exposures):
            clients = [client_key(exposure.client) for exposure in exposures]
            ids = _new(self._exposure_ids, for_exposures)
            made.append(blocks.of_exposures(exposures, ids, clients, self._keys_of))
        if made:
            made.append(blocks.of_identities(_new(self.ids, verdicts), _new(self._marks, verdicts)))
        if repeats := self._repeats(for_events):
            made.append(blocks.of_rows(schema.REPEATS, [(key, *counts) for key, counts in repeats.items()]))
        return made

    def answers(self, verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
        """Each caller's verdicts."""
        of_events, of_exposures = iter(verdicts[: len(self._events)]), iter(verdicts[len(self._events) :])
        return [
            [next(of_events) for _ in append.events] + [next(of_exposures) for _ in append.exposures]
            for append in self._appends
        ]

    def _repeats(self, verdicts: Sequence[Verdict]) -> dict[int, list[int]]:
        """Duplicates and conflicts of each type."""
        repeated: dict[int, list[int]] = {}
        for (client, event), verdict in zip(self._events, verdicts, strict=True):
            if verdict is not Verdict.ACCEPTED:
                counts = repeated.setdefault(type_key(client, event.event_type), [0, 0])
                counts[0] += 1
                counts[1] += verdict is Verdict.CONFLICT
        return repeated


def _new(items: Sequence[Item], verdicts: Sequence[Verdict]) -> list[Item]:
    return [item for item, verdict in zip(items, verdicts, strict=True) if verdict is Verdict.ACCEPTED]
