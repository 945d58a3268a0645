"""What decides for a client, all at once: for one user everywhere, for flags, and for SDKs, which decide by themselves.

A process reads it again when it is a second old and its revision in the control store is another one. While the database is away,
the last one goes on to be used.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from upshot import snapshot
from upshot.control import ReadTransaction
from upshot.errors import Unavailable
from upshot.experiments import Experiment, Status
from upshot.flags import Flag
from upshot.operations import Stores

KIND = "snapshot"
FRESH = timedelta(seconds=1)
PATIENCE = 1.0
LIVE = frozenset({Status.DRAFT, Status.RUNNING, Status.PAUSED})


@dataclass(frozen=True, slots=True)
class Published:
    """The experiments that are not over, and those over that a flag goes on to serve; the flags; and the document of both."""

    revision: int
    experiments: tuple[Experiment, ...]
    flags: Mapping[str, Flag]
    by_id: Mapping[str, Experiment]
    document: bytes = field(repr=False)
    etag: str
    composed_at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """What is remembered, and when its revision was asked for."""

    published: Published
    asked_at: datetime


async def known(stores: Stores, client: str) -> Published:
    """What decides for a client, at most a second old; older only while the database does not answer.

    Raises:
        Unavailable: it does not answer, and nothing is known yet.
    """
    held: Held | None = stores.published.get(client)
    if held is not None and stores.clock.now() - held.asked_at < FRESH:
        return held.published
    try:
        found: Published = await stores.reading.share((KIND, client), lambda: _read(stores, client, held), PATIENCE)
    except Unavailable:
        if held is None:
            raise
        return held.published
    return found


async def _read(stores: Stores, client: str, held: Held | None) -> Published:
    asked_at = stores.clock.now()
    async with stores.control.reading(client) as transaction:
        revision = await transaction.features.revision(client)
        if held is not None and held.published.revision == revision:
            published = held.published
        else:
            published = await _compose(transaction, client, revision, asked_at)
    stores.published[client] = Held(published, asked_at)
    return published


async def changes(stores: Stores, client: str) -> AsyncIterator[Published | None]:
    """What decides, now and whenever it has changed; every second None when it has not. Ends never.

    While the database is away, nothing changes.
    """
    told = ""
    while True:
        published = None
        with suppress(Unavailable):
            published = await known(stores, client)
        if published is None or published.etag == told:
            yield None
        else:
            told = published.etag
            yield published
        await asyncio.sleep(FRESH.total_seconds())


def forget(stores: Stores, client: str) -> None:
    """Ask for the revision again before the next answer: something was changed here."""
    held: Held | None = stores.published.get(client)
    if held is not None:
        stores.published[client] = replace(held, asked_at=held.asked_at - FRESH)


async def _compose(transaction: ReadTransaction, client: str, revision: int, now: datetime) -> Published:
    flags = {flag.key: flag for flag in await transaction.features.flags(client)}
    found = list((await transaction.experiments(client, status=LIVE, limit=None)).experiments)
    for identity in sorted({flag.experiment for flag in flags.values() if flag.experiment} - {e.id for e in found}):
        over = await transaction.experiment(client, identity)
        if over is not None:
            found.append(over)
    document = msgspec.json.encode(document_of(found, list(flags.values())))
    etag = sha256(document).hexdigest()[:32]
    return Published(revision, tuple(found), flags, {each.id: each for each in found}, document, f'"{etag}"', now)


def document_of(experiments: list[Experiment], flags: list[Flag]) -> dict[str, Any]:
    """The document that snapshot.py describes. A draft is in it only where an override shows it to somebody."""
    return {
        "format": snapshot.FORMAT,
        "experiments": [_entry(each) for each in experiments if each.status is not Status.DRAFT or each.overrides],
        "flags": [snapshot.describe_flag(flag) for flag in flags],
    }


def _entry(experiment: Experiment) -> dict[str, Any]:
    names = [variant.name for variant in experiment.variants]
    return {
        "id": experiment.id,
        "key": experiment.key,
        "status": "completed" if experiment.is_over else str(experiment.status),
        "phase": experiment.phase.number if experiment.phase else 0,
        "winner": experiment.winning,
        "variants": [
            {
                "id": variant.id,
                "name": variant.name,
                "is_control": variant.is_control,
                "weight": variant.weight,
                "config": variant.config,
            }
            for variant in experiment.variants
        ],
        **snapshot.describe_terms(experiment.terms, names),
    }
