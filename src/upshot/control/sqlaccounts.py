"""Every query about people, keys, sessions and invitations, client first, on every dialect."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, Table, delete, insert, or_, select, update
from sqlalchemy.engine import Row

from upshot.access import Role, Scope
from upshot.access.factors import Factor
from upshot.access.keys import ApiKey
from upshot.access.sessions import Invitation, Means, Session
from upshot.access.shares import Share
from upshot.access.users import User
from upshot.control.accesstables import api_keys, invitations, refresh_tokens, sessions, shares, users
from upshot.control.sqltrail import SqlTrail


class SqlAccounts(SqlTrail):
    """What a transaction knows of people and their credentials. One that may write locks what it reads."""

    async def user(self, client: str, user_id: str) -> User | None:
        """The person with that id."""
        return await self._user(client, users.c.id == user_id)

    async def user_called(self, client: str, email: str) -> User | None:
        """The person with that address."""
        return await self._user(client, users.c.email == email)

    async def user_known_as(self, client: str, subject: str) -> User | None:
        """The person whom a provider calls so."""
        return await self._user(client, users.c.subject == subject)

    async def users(self, client: str) -> list[User]:
        """All people, by address."""
        rows = await self._rows(select(users).where(users.c.client_id == client).order_by(users.c.email))
        return list(map(_user_of, rows))

    async def keys(self, client: str) -> list[ApiKey]:
        """All API keys, the newest first."""
        query = select(api_keys).where(api_keys.c.client_id == client)
        rows = await self._rows(query.order_by(api_keys.c.created_at.desc(), api_keys.c.id))
        return list(map(_key_of, rows))

    async def key(self, client: str, key_id: str) -> ApiKey | None:
        """The API key with that id."""
        rows = await self._rows(select(api_keys).where(api_keys.c.client_id == client, api_keys.c.id == key_id))
        return _key_of(rows[0]) if rows else None

    async def session(self, client: str, session_id: str) -> Session | None:
        """The session with that id."""
        return await self._session(client, sessions.c.id == session_id)

    async def session_with(self, client: str, digest: str) -> Session | None:
        """The session whose cookie or present refresh token has that digest."""
        return await self._session(client, sessions.c.digest == digest)

    async def session_without(self, client: str, digest: str) -> Session | None:
        """The session whose refresh token had that digest before it was used."""
        used = select(refresh_tokens.c.session_id).where(
            refresh_tokens.c.client_id == client, refresh_tokens.c.digest == digest
        )
        return await self._session(client, sessions.c.id == used.scalar_subquery())

    async def sessions(self, client: str, user_id: str) -> list[Session]:
        """The sessions of a person that have not been revoked."""
        query = select(sessions).where(sessions.c.client_id == client, sessions.c.user_id == user_id)
        rows = await self._rows(query.where(sessions.c.revoked_at.is_(None)).order_by(sessions.c.created_at))
        return list(map(_session_of, rows))

    async def invitation(self, client: str, digest: str) -> Invitation | None:
        """The invitation whose secret has that digest."""
        rows = await self._rows(
            select(invitations).where(invitations.c.client_id == client, invitations.c.digest == digest)
        )
        return Invitation(**_plain(rows[0], Invitation)) if rows else None

    async def add_user(self, client: str, user: User) -> None:
        """Store a new person."""
        added = insert(users).values(_values(client, user))
        await self._unique(added, "There is an account with this address already.")

    async def save_user(self, client: str, user: User) -> None:
        """Store a changed person."""
        await self._save(users, client, user)

    async def delete_user(self, client: str, user_id: str) -> None:
        """Remove a person; sessions and invitations go with them."""
        await self._connection.execute(delete(users).where(users.c.client_id == client, users.c.id == user_id))

    async def add_key(self, client: str, key: ApiKey) -> None:
        """Store a new API key."""
        await self._connection.execute(insert(api_keys).values(_values(client, key)))

    async def save_key(self, client: str, key: ApiKey) -> None:
        """Store a changed API key."""
        await self._save(api_keys, client, key)

    async def add_session(self, client: str, session: Session) -> None:
        """Store a new session."""
        await self._connection.execute(insert(sessions).values(_values(client, session)))

    async def renew_session(self, client: str, session: Session, used: str) -> None:
        """Store the session with its next refresh token, and that the one before was used."""
        await self._save(sessions, client, session)
        spent = {"digest": used, "client_id": client, "session_id": session.id}
        await self._connection.execute(insert(refresh_tokens).values(spent))

    async def revoke_session(self, client: str, session_id: str, now: datetime) -> None:
        """End a session."""
        ended = update(sessions).where(sessions.c.client_id == client, sessions.c.id == session_id)
        await self._connection.execute(ended.where(sessions.c.revoked_at.is_(None)).values(revoked_at=now))

    async def revoke_sessions(self, client: str, user_id: str, now: datetime, spare: str | None = None) -> None:
        """End all sessions of a person, but the one that is spared."""
        ended = update(sessions).where(sessions.c.client_id == client, sessions.c.user_id == user_id)
        if spare is not None:
            ended = ended.where(sessions.c.id != spare)
        await self._connection.execute(ended.where(sessions.c.revoked_at.is_(None)).values(revoked_at=now))

    async def forget_sessions(self, client: str, before: datetime) -> int:
        """Remove sessions and invitations that ended before that moment."""
        over = or_(sessions.c.expires_at < before, sessions.c.revoked_at < before)
        gone = await self._connection.execute(delete(sessions).where(sessions.c.client_id == client, over))
        late = invitations.c.client_id == client, invitations.c.expires_at < before
        return gone.rowcount + (await self._connection.execute(delete(invitations).where(*late))).rowcount

    async def note_use(self, client: str, key_ids: Sequence[str], session_ids: Sequence[str], at: datetime) -> None:
        """Note when keys and sessions were used last."""
        for table, moment, ids in (
            (api_keys, api_keys.c.last_used_at, key_ids),
            (sessions, sessions.c.used_at, session_ids),
        ):
            if ids:
                used = update(table).where(table.c.client_id == client, table.c.id.in_(sorted(ids)))
                await self._connection.execute(used.values({moment: at}))

    async def add_invitation(self, client: str, invitation: Invitation) -> None:
        """Store a new invitation; those before it are void."""
        same = invitations.c.client_id == client, invitations.c.user_id.is_not_distinct_from(invitation.user_id)
        await self._connection.execute(delete(invitations).where(*same))
        await self._connection.execute(insert(invitations).values(_values(client, invitation)))

    async def take_invitation(self, client: str, digest: str, now: datetime) -> bool:
        """Take up an invitation; False when somebody has done so."""
        taken = update(invitations).where(invitations.c.client_id == client, invitations.c.digest == digest)
        found = await self._connection.execute(taken.where(invitations.c.used_at.is_(None)).values(used_at=now))
        return bool(found.rowcount)

    async def shares(self, client: str, experiment_id: str) -> list[Share]:
        """The links to the result of an experiment, the newest first."""
        query = select(shares).where(shares.c.client_id == client, shares.c.experiment_id == experiment_id)
        rows = await self._rows(query.order_by(shares.c.created_at.desc(), shares.c.id))
        return [Share(**_plain(row, Share)) for row in rows]

    async def share(self, client: str, digest: str) -> Share | None:
        """The link whose secret has that digest."""
        rows = await self._rows(select(shares).where(shares.c.client_id == client, shares.c.digest == digest))
        return Share(**_plain(rows[0], Share)) if rows else None

    async def add_share(self, client: str, share: Share) -> None:
        """Store a new link to a result."""
        await self._connection.execute(insert(shares).values(_values(client, share)))

    async def delete_share(self, client: str, share_id: str) -> None:
        """Remove a link to a result."""
        await self._connection.execute(delete(shares).where(shares.c.client_id == client, shares.c.id == share_id))

    async def _user(self, client: str, condition: Any) -> User | None:
        rows = await self._rows(select(users).where(users.c.client_id == client, condition))
        return _user_of(rows[0]) if rows else None

    async def _session(self, client: str, condition: Any) -> Session | None:
        rows = await self._rows(select(sessions).where(sessions.c.client_id == client, condition))
        return _session_of(rows[0]) if rows else None

    async def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return (await self._read(query)).all()

    async def _save(self, table: Table, client: str, record: Any) -> None:
        same = table.c.client_id == client, table.c.id == record.id
        await self._connection.execute(update(table).where(*same).values(_values(client, record)))


def _values(client: str, record: Any) -> dict[str, Any]:
    """The row of a record: its fields are the columns."""
    row = {"client_id": client} | {field.name: getattr(record, field.name) for field in fields(record)}
    if isinstance(record, ApiKey):
        row |= {"scopes": sorted(record.scopes), "origins": list(record.origins)}
    return row


def _plain(row: Row[Any], kind: type) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(kind)}


def _user_of(row: Row[Any]) -> User:
    factor = None if row.factor is None else msgspec.convert(row.factor, Factor)
    return User(**_plain(row, User) | {"role": Role(row.role), "factor": factor})


def _key_of(row: Row[Any]) -> ApiKey:
    return ApiKey(**_plain(row, ApiKey) | {"scopes": frozenset(map(Scope, row.scopes)), "origins": tuple(row.origins)})


def _session_of(row: Row[Any]) -> Session:
    return Session(**_plain(row, Session) | {"means": Means(row.means)})
