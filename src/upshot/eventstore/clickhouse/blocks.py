"""What is inserted at once: rows as columns, with the token by which the server knows the block again.

The token stands for identities and contents: a retry of the same rows has the same one in any order, other contents under
the same ids have another, so that nothing different is ever taken for a repetition.
"""

import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from upshot.events import Event, Exposure
from upshot.eventstore.clickhouse import schema
from upshot.eventstore.keys import Keys, integers

KeysOf = Callable[[str], Keys]


class Block(NamedTuple):
    """Rows for one table, column by column in the order of the schema."""

    table: schema.ClickHouseTable
    columns: Sequence[Any]
    token: str


def of_events(
    owned: Sequence[tuple[str, Event]], ids: Sequence[bytes], type_keys: Sequence[int], keys_of: KeysOf
) -> Block:
    """(Client, event) pairs with their identities and type keys."""
    event_id, user_id, _, occurred_at, received_at, value, properties, experiment_id, flags, mark, ordinal = zip(
        *(event for _, event in owned), strict=True
    )
    split = integers(ids)
    users = integers(keys_of(client).user(event.user_id) for client, event in owned)[:, 0]
    columns = (
        type_keys, users, occurred_at, received_at, value, flags, split[:, 0], split[:, 1], mark, user_id, event_id,
        experiment_id, properties, ordinal,
    )  # fmt: skip
    return Block(schema.EVENTS, columns, _token(ids, mark))


def of_exposures(
    exposures: Sequence[Exposure], ids: Sequence[bytes], client_keys: Sequence[int], keys_of: KeysOf
) -> Block:
    """Exposures with their identities and client keys."""
    split = integers(ids)
    rows = [(e.experiment, e.variant, e.phase, e.exposed_at, e.user_id, e.context) for e in exposures]
    experiment, variant, phase, exposed_at, user_id, context = zip(*rows, strict=True)
    users = integers(keys_of(exposure.client).user(exposure.user_id) for exposure in exposures)[:, 0]
    columns = (
        client_keys, experiment, users, variant, phase, exposed_at, split[:, 0], split[:, 1], user_id, context
    )  # fmt: skip
    return Block(schema.EXPOSURES, columns, _token(ids, rows))


def of_identities(ids: Sequence[bytes], marks: Sequence[int]) -> Block:
    """Identities with the fingerprints of what was stored under them."""
    split = integers(ids)
    return Block(schema.IDENTITIES, (split[:, 0], split[:, 1], marks), _token(ids, marks))


def of_rows(table: schema.ClickHouseTable, rows: Sequence[tuple[Any, ...]]) -> Block:
    """Any rows, each time as new ones."""
    return Block(table, tuple(zip(*rows, strict=True)), secrets.token_hex(16))


def _token(ids: Sequence[bytes], contents: Sequence[Any]) -> str:
    digest = blake2b(digest_size=16)
    for identity, content in sorted(zip(ids, contents, strict=True), key=lambda pair: pair[0]):
        digest.update(identity + repr(content).encode())
    return digest.hexdigest()
