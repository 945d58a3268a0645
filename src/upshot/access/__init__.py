"""Who may do what: callers and the scopes of what they may do.

    users      people: their roles, addresses and the rules of passwords
    keys       API keys: how one is written, checked and kept
    sessions   what a person's sign-in is, and how long it lasts
    tickets    what opens a stream of changes
    trail      entries of the audit log, approvals
    passwords  argon2id, off the event loop
    keyring    signed access tokens, and secrets that must be read again
    oidc       sign-in by another provider

The first five are pure; the others are edges that operations work with.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

DEFAULT_CLIENT = "default"
EVERYONE = "*"
"""Stands for all clients where work is done for everybody; no client may have that name."""


class Scope(StrEnum):
    """One thing that a credential may be good for. `admin` includes the others."""

    ASSIGN = "assign"
    EVENTS = "events:write"
    RESULTS = "results:read"
    EXPERIMENTS = "experiments:write"
    ADMIN = "admin"


class Role(StrEnum):
    """What a person is to a client."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


EVERYTHING = frozenset(Scope)
SCOPES = MappingProxyType(
    {
        Role.VIEWER: frozenset({Scope.RESULTS}),
        Role.EDITOR: EVERYTHING - {Scope.ADMIN},
        Role.ADMIN: EVERYTHING,
    }
)


class Kind(StrEnum):
    """What a caller is."""

    TOKEN = "token"  # noqa: S105 - one of the environment
    KEY = "key"
    USER = "user"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for which client, and what they may do.

    `session` is the sign-in that a person's request belongs to, `origins` where a browser key may be used from, and `request`
    the id of the request, for the audit log.
    """

    client: str
    kind: Kind
    id: str
    name: str
    scopes: frozenset[Scope]
    session: str | None = None
    origins: tuple[str, ...] = ()
    request: str | None = None

    def may(self, *scopes: Scope) -> bool:
        """Whether one of these scopes is the caller's."""
        return Scope.ADMIN in self.scopes or not self.scopes.isdisjoint(scopes)

    @property
    def credential(self) -> str:
        """What the caller shows, by a name that is no secret."""
        return f"{self.kind}:{self.id}"


def system(client: str, name: str) -> Caller:
    """The product itself, at work for a client: a scheduled job, or a command of whoever runs the machine."""
    return Caller(client, Kind.SYSTEM, name, name, EVERYTHING)
