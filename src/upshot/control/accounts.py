"""What a transaction knows of people, keys, sign-ins, the audit log and approvals: the contract, which `sqlaccounts.py` and
`sqltrail.py` serve."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from upshot.access.keys import ApiKey
from upshot.access.sessions import Invitation, Session
from upshot.access.shares import Share
from upshot.access.trail import ALL, Approval, Entry, Sought, State
from upshot.access.users import User


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries of the audit log, and where the next page begins (None at the end)."""

    entries: tuple[Entry, ...]
    following: int | None


class ReadAccounts(Protocol):
    """What can be read."""

    async def user(self, client: str, user_id: str) -> User | None:
        """The person with that id."""
        ...

    async def user_called(self, client: str, email: str) -> User | None:
        """The person with that address, in the form that `email_of` gives."""
        ...

    async def user_known_as(self, client: str, subject: str) -> User | None:
        """The person whom a provider calls so."""
        ...

    async def users(self, client: str) -> list[User]:
        """All people, by address."""
        ...

    async def keys(self, client: str) -> list[ApiKey]:
        """All API keys, the newest first."""
        ...

    async def key(self, client: str, key_id: str) -> ApiKey | None:
        """The API key with that id."""
        ...

    async def session(self, client: str, session_id: str) -> Session | None:
        """The session with that id."""
        ...

    async def session_with(self, client: str, digest: str) -> Session | None:
        """The session whose cookie or present refresh token has that digest."""
        ...

    async def session_without(self, client: str, digest: str) -> Session | None:
        """The session whose refresh token had that digest before it was used."""
        ...

    async def invitation(self, client: str, digest: str) -> Invitation | None:
        """The invitation whose secret has that digest."""
        ...

    async def sessions(self, client: str, user_id: str) -> list[Session]:
        """The sessions of a person that have not been revoked."""
        ...

    async def settings(self, client: str) -> dict[str, Any]:
        """What the client's admins chose."""
        ...

    async def entries(
        self, client: str, sought: Sought = ALL, *, after: int | None = None, limit: int = 50
    ) -> EntryPage:
        """A page of the audit log, the newest first, from below number `after`."""
        ...

    async def approval(self, client: str, approval_id: str) -> Approval | None:
        """The approval with that id."""
        ...

    async def approvals(
        self, client: str, state: State | None = None, experiment_id: str | None = None
    ) -> list[Approval]:
        """The last 200 approvals, the newest first."""
        ...

    async def shares(self, client: str, experiment_id: str) -> list[Share]:
        """The links by which the result of an experiment is shared, the newest first."""
        ...

    async def share(self, client: str, digest: str) -> Share | None:
        """The link whose secret has that digest."""
        ...


class Accounts(ReadAccounts, Protocol):
    """What can be changed."""

    async def add_user(self, client: str, user: User) -> None:
        """Store a new person. Raises Conflict when the client has that address or subject."""
        ...

    async def save_user(self, client: str, user: User) -> None:
        """Store a changed person."""
        ...

    async def delete_user(self, client: str, user_id: str) -> None:
        """Remove a person; sessions and invitations go with them."""
        ...

    async def add_key(self, client: str, key: ApiKey) -> None:
        """Store a new API key."""
        ...

    async def save_key(self, client: str, key: ApiKey) -> None:
        """Store a changed API key."""
        ...

    async def add_session(self, client: str, session: Session) -> None:
        """Store a new session."""
        ...

    async def renew_session(self, client: str, session: Session, used: str) -> None:
        """Store the session with its next refresh token, and that the one with the digest `used` was used."""
        ...

    async def forget_sessions(self, client: str, before: datetime) -> int:
        """Remove sessions and invitations that ended before that moment; returns how many."""
        ...

    async def note_use(self, client: str, key_ids: Sequence[str], session_ids: Sequence[str], at: datetime) -> None:
        """Note when keys and sessions were used last."""
        ...

    async def revoke_session(self, client: str, session_id: str, now: datetime) -> None:
        """End a session."""
        ...

    async def revoke_sessions(self, client: str, user_id: str, now: datetime, spare: str | None = None) -> None:
        """End all sessions of a person, but the one that is spared."""
        ...

    async def add_invitation(self, client: str, invitation: Invitation) -> None:
        """Store a new invitation; those before it, for the same person or for the first admin, are void."""
        ...

    async def take_invitation(self, client: str, digest: str, now: datetime) -> bool:
        """Take up an invitation; False when somebody has done so."""
        ...

    async def save_settings(self, client: str, chosen: dict[str, Any]) -> None:
        """Store what the client's admins chose."""
        ...

    async def record(self, client: str, entries: Sequence[Entry]) -> None:
        """Add to the audit log."""
        ...

    async def add_approval(self, client: str, approval: Approval) -> None:
        """Store a new approval."""
        ...

    async def save_approval(self, client: str, approval: Approval) -> None:
        """Store a changed approval."""
        ...

    async def add_share(self, client: str, share: Share) -> None:
        """Store a new link to a result."""
        ...

    async def delete_share(self, client: str, share_id: str) -> None:
        """Remove a link to a result."""
        ...
