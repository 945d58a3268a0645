"""The shapes of what is sent in all day: users to assign, events, past assignments and events."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, SkipValidation

from upshot.events import SEQUENCES
from upshot.http.wire import OBJECT, TEXT, Context, In, UserId, either


class UserIn(In):
    """A user to assign, with what is known about them."""

    user_id: UserId
    context: Context = Field(default_factory=dict)


class AssignManyIn(In):
    """Users to assign ahead of time: ids, or objects with a context."""

    users: list[
        Annotated[Annotated[UserId, TEXT] | Annotated[UserIn, OBJECT], either("a user id or a user with a context")]
    ] = Field(validation_alias=AliasChoices("users", "user_ids"), min_length=1, max_length=1_000)

    def pairs(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """(user id, context) of each."""
        return [(user, {}) if isinstance(user, str) else (user.user_id, user.context) for user in self.users]


class EventIn(In):
    """An event that a user caused. Without a timestamp it happened now; without an event_id a retry counts twice.

    With a session_id and a sequence, events that are lost on the way are noticed.
    """

    model_config = ConfigDict(
        json_schema_extra={"dependentRequired": {"session_id": ["sequence"], "sequence": ["session_id"]}}
    )

    user_id: UserId
    event_type: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(None, examples=["purchase"])
    type: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Another name of event_type."
    )
    timestamp: str | None = Field(None, description="ISO 8601 with an offset.", examples=["2026-01-31T12:00:00Z"])
    properties: dict[str, Any] | None = Field(None, examples=[{"price": 1000.0, "currency": "USD"}])
    experiment_id: str | None = Field(None, description="Id or key of an experiment; optional.")
    event_id: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(None, description="Idempotency key.")
    session_id: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="The client's session, where it numbers its events."
    )
    sequence: Annotated[int, Field(ge=1, lt=SEQUENCES)] | None = Field(
        None, description="The number of the event in its session, from 1 on, over events of all types."
    )


class EventsIn(In):
    """Several events, with the client's clock at the moment of sending, by which their times are corrected."""

    events: list[EventIn] = Field(min_length=1, max_length=10_000)
    sent_at: str | None = Field(None, description="ISO 8601 with an offset.")


class AssignmentRowIn(In):
    """An assignment that was made elsewhere."""

    user_id: UserId
    variant: str
    assigned_at: AwareDatetime
    context: Context = Field(default_factory=dict)


class ImportIn(In):
    """Assignments made elsewhere and past events, with their own times."""

    assignments: list[AssignmentRowIn] = Field(default_factory=list)
    events: list[EventIn] = Field(default_factory=list)


class ExposureIn(In):
    """A user was shown a variant (by name or id) of an experiment (by id or key)."""

    user_id: UserId
    experiment: str
    variant: str
    exposed_at: str | None = Field(None, description="ISO 8601 with an offset; by default now.")
    context: Context = Field(default_factory=dict)


class ExposuresIn(In):
    """What an SDK showed, with its clock at the moment of sending, by which moments are corrected."""

    exposures: list[ExposureIn] = Field(min_length=1, max_length=1_000)
    sent_at: str | None = Field(None, description="ISO 8601 with an offset.")


class EvaluationIn(BaseModel):
    """For whom flags are evaluated: `targetingKey` is the user's id, everything else is what is known of the user."""

    context: dict[str, Any]


class IdentityIn(In):
    """An anonymous id and the user whose it turned out to be."""

    anonymous_id: Annotated[UserId, Field(examples=["visitor-5f0c"])]
    user_id: UserId


class IdentitiesIn(In):
    """Several of these; each is judged by itself."""

    identities: list[SkipValidation[IdentityIn]] = Field(min_length=1, max_length=1_000)
