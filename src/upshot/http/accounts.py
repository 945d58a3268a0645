"""The shapes of people, keys, sign-ins, the audit log and approvals, in requests and responses."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from upshot.access.keys import ApiKey
from upshot.access.sessions import Session
from upshot.access.trail import Approval, Entry
from upshot.access.users import User
from upshot.http.wire import In

ScopeWord = Literal["assign", "events:write", "results:read", "experiments:write", "admin"]
RoleWord = Literal["viewer", "editor", "admin"]
Email = Annotated[str, Field(min_length=3, max_length=254, examples=["ann@example.com"])]
Password = Annotated[str, Field(min_length=1, max_length=1_000, json_schema_extra={"format": "password"})]


class UserIn(In):
    """A new person. Without a password they get an invitation to choose one, which is better."""

    email: Email
    name: Annotated[str, Field(max_length=120)] = ""
    role: RoleWord
    password: Password | None = None


class UserPatch(In):
    """What may be changed of a person."""

    name: Annotated[str, Field(max_length=120)] | None = None
    role: RoleWord | None = None
    disabled: bool | None = None


class PasswordIn(In):
    """A change of one's own password."""

    current_password: Password
    new_password: Password


class ApiKeyIn(In):
    """A new key. With origins it is one for browsers: `events:write` and `assign` only."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    scopes: Annotated[list[ScopeWord], Field(min_length=1, max_length=5)]
    origins: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=50)] = Field(
        default_factory=list, examples=[["https://shop.example.com"]]
    )
    expires_in_days: Annotated[int, Field(ge=1, le=3_650)] | None = Field(365, description="null: never.")


class RotationIn(In):
    """How long the old key is good beside the new one."""

    overlap_hours: Annotated[int, Field(ge=0, le=720)] = 24


class ClientPatch(In):
    """What admins choose for the whole client."""

    second_factor: bool | None = Field(None, description="Whether people with a password need a second factor.")
    approvals: Annotated[list[Literal["start", "complete"]], Field(max_length=2)] | None = Field(
        None, description="What needs a second person."
    )


class UserOut(BaseModel):
    """A person. `provider` says whether they sign in by a provider."""

    id: str
    email: str
    name: str
    role: RoleWord
    disabled: bool
    provider: bool
    joined: bool
    second_factor: bool
    created_at: datetime
    updated_at: datetime
    signed_in_at: datetime | None

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """The wire form of a person."""
        own = {name: getattr(user, name) for name in cls.model_fields if hasattr(user, name)}
        joined = user.password is not None or user.subject is not None
        return cls(
            **own,
            disabled=user.disabled_at is not None,
            provider=user.subject is not None,
            joined=joined,
        )


class NewUserOut(UserOut):
    """A person who was just made; `invitation` is the secret of their link, shown once, where they got no password."""

    invitation: str | None = None


class UsersOut(BaseModel):
    """All people of the client, by address."""

    users: list[UserOut]


class InvitationOut(BaseModel):
    """The secret of an invitation, shown once; it is good once and for a day."""

    invitation: str


class UserSessionOut(BaseModel):
    """A sign-in that is good now."""

    id: str
    means: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, session: Session) -> "UserSessionOut":
        """The wire form of a session."""
        return cls(**{name: getattr(session, name) for name in cls.model_fields})


class UserSessionsOut(BaseModel):
    """A person's sign-ins that are good now."""

    sessions: list[UserSessionOut]


class ApiKeyOut(BaseModel):
    """A key, without its secret: `shown` is what to know it by."""

    id: str
    name: str
    shown: str
    scopes: list[ScopeWord]
    origins: list[str]
    active: bool
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def fields_of(cls, key: ApiKey, now: datetime) -> dict[str, Any]:
        """The fields of the wire form."""
        own = {name: getattr(key, name) for name in cls.model_fields if hasattr(key, name)}
        shown = f"upk_{key.id}_…{key.ending}"
        return own | {
            "scopes": sorted(key.scopes),
            "origins": list(key.origins),
            "shown": shown,
            "active": key.active(now),
        }


class NewApiKeyOut(ApiKeyOut):
    """A key that was just made: `key` is the whole of it, shown once."""

    key: str


class ApiKeysOut(BaseModel):
    """All keys of the client, the newest first."""

    api_keys: list[ApiKeyOut]


class EntryOut(BaseModel):
    """Who did what to which object; of before and after the parts that differ."""

    number: int
    at: datetime
    actor_kind: str
    actor_id: str
    actor_name: str
    action: str
    object_kind: str
    object_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str | None

    @classmethod
    def of(cls, entry: Entry) -> "EntryOut":
        """The wire form of an entry."""
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})


class AuditOut(BaseModel):
    """A page of the audit log, the newest first; `next_cursor` is null on the last one."""

    entries: list[EntryOut]
    next_cursor: str | None


class ApprovalOut(BaseModel):
    """What somebody wants to do to an experiment, until somebody else agrees."""

    id: str
    experiment_id: str
    action: str
    version: int
    state: str
    requested_by: str
    requested_by_name: str
    requested_at: datetime
    winner: str | None
    decided_by: str | None
    decided_by_name: str | None
    decided_at: datetime | None

    @classmethod
    def of(cls, approval: Approval) -> "ApprovalOut":
        """The wire form of an approval."""
        return cls(**{name: getattr(approval, name) for name in cls.model_fields})


class ApprovalsOut(BaseModel):
    """Approvals, the newest first."""

    approvals: list[ApprovalOut]


class ClientOut(BaseModel):
    """What holds for the whole client."""

    client: str
    approvals: list[str]
    second_factor: bool
