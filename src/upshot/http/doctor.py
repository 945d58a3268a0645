"""The experiment doctor over HTTP: why an experiment has the data that it has, and a live tail of events."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from fastapi import Query, Request, Response
from pydantic import BaseModel

from upshot import diagnosis
from upshot.diagnosis import Diagnosis
from upshot.events import SECOND
from upshot.eventstore import StoredEvent
from upshot.http.access import Browser, ResultsReader
from upshot.http.cursors import cursor_of_place, place_of
from upshot.http.limits import Limits
from upshot.http.openapi import problems
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.operations import diagnosis as diagnosing
from upshot.operations import events

router = Router(tags=["doctor"])

SHOWN = 200
"""Received event types that a diagnosis shows, the commonest."""


class DiagnosedExperimentOut(BaseModel):
    """Which experiment this is about."""

    id: str
    key: str
    name: str
    status: str


class FindingOut(BaseModel):
    """What was found, and what to do; the doctor's page says what each code means."""

    code: str
    severity: Literal["problem", "warning", "ok"]
    message: str
    remedy: str


class LastOut(BaseModel):
    """The last assignment and exposure of the experiment, and the client's last event of any type."""

    assignment: datetime | None
    exposure: datetime | None
    event: datetime | None


class CountsOut(BaseModel):
    """Users and events. Those before exposure and of unknown users are of awaited types, since the experiment's start; those
    ahead of the clock are among the client's newest."""

    assigned_users: int
    exposed_users: int
    joined_users: int
    join_rate: float | None
    events_before_exposure: int
    users_before_exposure: int
    events_of_unknown_users: int
    unknown_users: int
    duplicates: int
    late_events: int
    events_ahead_of_clock: int


class NearMissOut(BaseModel):
    """An event type that came, and was probably meant to be the awaited one."""

    event_type: str
    events: int
    last_at: datetime


class AwaitedOut(BaseModel):
    """An event type that metrics (keys) wait for, and what came of it."""

    event_type: str
    metrics: list[str]
    events: int
    last_at: datetime | None
    near_misses: list[NearMissOut]


class ReceivedOut(BaseModel):
    """An event type that came."""

    event_type: str
    events: int
    first_at: datetime
    last_at: datetime


class SkewOut(BaseModel):
    """By how many seconds the newest events are ahead of their receipt; below 0 they came later."""

    p50: float
    p99: float


class CurlsOut(BaseModel):
    """The three calls for this experiment, for a shell that has `$TOKEN`."""

    assign: str
    event: str
    results: str


class DoctorOut(BaseModel):
    """Why an experiment has the data that it has: findings, the worst first, and the numbers that they rest on."""

    experiment: DiagnosedExperimentOut
    checked_at: datetime
    findings: list[FindingOut]
    last: LastOut
    counts: CountsOut
    awaited: list[AwaitedOut]
    received: list[ReceivedOut]
    clock_skew_seconds: SkewOut | None
    curls: CurlsOut

    @classmethod
    def of(cls, found: Diagnosis, base: str) -> "DoctorOut":
        """The wire form of a diagnosis, with calls at that server."""
        experiment = found.experiment
        return cls.model_validate(
            {
                "experiment": {name: getattr(experiment, name) for name in DiagnosedExperimentOut.model_fields},
                "checked_at": found.checked_at,
                "findings": [asdict(finding) for finding in found.findings],
                "last": asdict(found.last),
                "counts": asdict(found.counts),
                "awaited": [
                    part._asdict()
                    | {"metrics": list(part.metrics), "near_misses": [near._asdict() for near in part.near_misses]}
                    for part in found.awaited
                ],
                "received": [part._asdict() for part in found.received[:SHOWN]],
                "clock_skew_seconds": found.skew and asdict(found.skew),
                "curls": diagnosis.calls(base, experiment.key, found.example)._asdict(),
            }
        )


class RecentEventOut(BaseModel):
    """An event as it is stored."""

    event_id: str
    user_id: str
    event_type: str
    timestamp: datetime
    received_at: datetime
    experiment_id: str | None
    properties: dict[str, object]


class RecentEventsOut(BaseModel):
    """The newest events, the newest one last; `after` asks for those that come after them."""

    events: list[RecentEventOut]
    after: str | None


@router.get("/experiments/{experiment_id}/doctor", responses=problems(403, 404, 504))
async def diagnose(caller: ResultsReader, stores: StoresOf, request: Request, experiment_id: str) -> DoctorOut:
    """Why this experiment has the data that it has: names that differ from those that metrics wait for, events before exposure,
    events of unknown users, clocks, duplicates; each finding with what to do."""
    limits: Limits = request.app.state.limits
    async with limits.under_way("results", caller.client):
        found = await diagnosing.diagnose(stores, caller.client, experiment_id)
    return DoctorOut.of(found, str(request.base_url))


@router.get("/events/recent", response_model=RecentEventsOut, responses=problems(403, 504))
async def recent(
    caller: Browser,
    stores: StoresOf,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[
        str | None,
        Query(max_length=200, description="The `after` of an earlier answer: events from there on, first ones first."),
    ] = None,
) -> Response:
    """The newest events of any type, the newest one last. Asked again with `after`, once a second, it tells each event once."""
    found = await events.recent(stores, caller.client, limit, place_of(after))
    following = cursor_of_place(found[-1].place) if found else after
    content = {"events": [_shown(event) for event in found], "after": following}
    return Response(msgspec.json.encode(content), media_type="application/json")


def _shown(event: StoredEvent) -> dict[str, object]:
    return {
        "event_id": event.event_id,
        "user_id": event.user_id,
        "event_type": event.event_type,
        "timestamp": datetime.fromtimestamp(event.occurred_at / SECOND, UTC),
        "received_at": datetime.fromtimestamp(event.received_at / SECOND, UTC),
        "experiment_id": event.experiment_id,
        "properties": msgspec.Raw(event.properties.encode()),
    }
