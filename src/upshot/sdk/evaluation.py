"""The value of a flag for a user, given the choice of the experiment that drives it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from upshot import flags
from upshot.flags import Flag, Kind
from upshot.sdk import contract
from upshot.sdk.contract import ERROR, Choice, Evaluation, T
from upshot.sdk.prepared import Prepared
from upshot.sdk.recording import UNUSABLE

_KINDS: Mapping[type, Kind] = {
    bool: Kind.BOOLEAN,
    str: Kind.STRING,
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    dict: Kind.OBJECT,
}


def evaluated(
    flag: Flag,
    user_id: str,
    default: T,
    context: Mapping[str, Any],
    now: datetime,
    driver: Prepared | None = None,
    choice: Choice | None = None,
) -> Evaluation[T]:
    """The flag's value, of the type of the default; else the default, with the error's code.

    Args:
        driver: the experiment that drives the flag.
        choice: what that one gives the user.
    """
    if flag.kind is not _KINDS.get(type(default)):
        return Evaluation(flag.key, default, ERROR, error_code=contract.TYPE_MISMATCH)
    if not user_id and flag.enabled and (flag.experiment or flag.rollout):
        return Evaluation(flag.key, default, ERROR, error_code=contract.KEY_MISSING)
    entry = driver.entry if driver else None
    decision = driver.as_decided(choice) if driver and choice else None
    try:
        found = flags.evaluate(flag, user_id, context, now, entry, decision)
    except UNUSABLE:
        return Evaluation(flag.key, default, ERROR, error_code=contract.INVALID)
    experiment = entry.key if entry and found.driven else None
    return Evaluation(flag.key, found.value, str(found.reason), found.variant, experiment)
