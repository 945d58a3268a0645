"""The shapes of signing in, in requests and responses: passwords, codes of a second factor, tokens, the session of a browser."""

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, Field

from upshot.access import Caller
from upshot.access.sessions import csrf_token
from upshot.http.accounts import Email, Password
from upshot.http.wire import In
from upshot.operations.signin import Signed

Code = Annotated[str, Field(min_length=1, max_length=100, examples=["123456"])]
Secret = Annotated[str, Field(min_length=1, max_length=200)]
RECOVERY = "Shown once, when this sign-in has confirmed a second factor; empty otherwise."
ClientName = Annotated[str, Field(min_length=1, max_length=120)]


class SignInIn(In):
    """An address and its password; or, at `/auth/token`, a refresh token instead."""

    email: Email = Field(validation_alias=AliasChoices("email", "username"))
    password: Password
    client: ClientName = Field("default", description="Which client's account; most installations have one.")
    code: Code | None = Field(
        None, description="Of the second factor, where there is one: of the app, or for recovery."
    )


class FactorIn(In):
    """Somebody who wants to set up a second factor."""

    email: Email
    password: Password
    client: ClientName = "default"


class FactorOut(BaseModel):
    """A new second factor, shown once; the code of the next sign-in confirms it. `qr` is a picture of `uri` (`data:`)."""

    secret: str
    uri: str
    qr: str


class CodeIn(In):
    """A code of one's second factor."""

    code: Code


class RecoveryOut(BaseModel):
    """Recovery codes, shown once; each is good once."""

    recovery_codes: list[str]


class RefreshIn(In):
    """A refresh token, which is good once."""

    refresh_token: Secret


class InvitationIn(In):
    """Taking up an invitation: the secret of the link, and a password of one's own. The first admin says an address, too."""

    secret: Secret
    password: Password
    email: Email | None = None
    name: Annotated[str, Field(max_length=120)] = ""


class TokenOut(BaseModel):
    """An access token, for a quarter of an hour, and the refresh token for the next one."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a word of RFC 6750
    expires_in: int
    refresh_token: str
    scope: str
    recovery_codes: list[str] = Field(description=RECOVERY)

    @classmethod
    def of(cls, signed: Signed, scope: str) -> "TokenOut":
        """The wire form of a sign-in."""
        return cls(
            access_token=signed.access,
            expires_in=int(signed.access_lifetime.total_seconds()),
            refresh_token=signed.secret,
            scope=scope,
            recovery_codes=list(signed.recovery_codes),
        )


class SessionOut(BaseModel):
    """Who is signed in; pages send `csrf_token` in `X-CSRF-Token` with every change."""

    client: str
    user_id: str
    email: str
    scopes: list[str]
    csrf_token: str | None
    recovery_codes: list[str] = Field([], description=RECOVERY)

    @classmethod
    def of(cls, caller: Caller, cookie: str | None) -> "SessionOut":
        """The wire form of the caller's session."""
        token = csrf_token(cookie) if cookie else None
        return cls(
            client=caller.client, user_id=caller.id, email=caller.name, scopes=sorted(caller.scopes), csrf_token=token
        )
