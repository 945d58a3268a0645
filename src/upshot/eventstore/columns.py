"""Rows as NumPy columns: the form in which DuckDB takes them fastest."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from upshot.events import Event, Exposure
from upshot.eventstore.keys import Keys, integers

Columns = dict[str, Any]
KeysOf = Callable[[str], Keys]


def of_events(
    owned: Sequence[tuple[str, Event]],
    ids: Sequence[bytes],
    type_keys: Sequence[int],
    keys_of: KeysOf,
) -> Columns:
    """The columns of (client, event) pairs with their identities and type keys; ordinals only where there are any."""
    split = integers(ids)
    event_id, user_id, _, occurred_at, received_at, value, properties, experiment_id, flags, mark, ordinal = zip(
        *(event for _, event in owned), strict=True
    )
    numbered = {"ordinal": np.ma.masked_equal(np.array([number or 0 for number in ordinal], np.int64), 0)}
    return {
        "type_key": np.array(type_keys, np.int32),
        "user_key": integers(keys_of(client).user(event.user_id) for client, event in owned)[:, 0],
        "occurred_at": np.array(occurred_at, np.int64),
        "received_at": np.array(received_at, np.int64),
        "value": np.ma.masked_invalid(np.array(value, np.float64)),  # None became NaN; it is stored as NULL
        "flags": np.array(flags, np.int16),
        "id_high": split[:, 0],
        "id_low": split[:, 1],
        "fingerprint": np.array(mark, np.int64),
        "user_id": np.array(user_id, object),
        "event_id": np.array(event_id, object),
        "experiment_id": np.array(experiment_id, object),
        "properties": np.array(properties, object),
        **(numbered if any(ordinal) else {}),
    }


def of_exposures(
    exposures: Sequence[Exposure],
    ids: Sequence[bytes],
    client_keys: Sequence[int],
    keys_of: KeysOf,
) -> Columns:
    """The columns of exposures with their identities and client keys."""
    split = integers(ids)
    return {
        "client_key": np.array(client_keys, np.int32),
        "experiment": np.array([exposure.experiment for exposure in exposures], np.int64),
        "user_key": integers(keys_of(exposure.client).user(exposure.user_id) for exposure in exposures)[:, 0],
        "variant": np.array([exposure.variant for exposure in exposures], np.int16),
        "phase": np.array([exposure.phase for exposure in exposures], np.int16),
        "exposed_at": np.array([exposure.exposed_at for exposure in exposures], np.int64),
        "id_high": split[:, 0],
        "id_low": split[:, 1],
        "user_id": np.array([exposure.user_id for exposure in exposures], object),
        "context": np.array([exposure.context for exposure in exposures], object),
    }
