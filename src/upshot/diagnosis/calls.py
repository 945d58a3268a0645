"""The three calls of the whole loop for one experiment, to paste into a shell: assign, event, results."""

import json
import shlex
from typing import NamedTuple
from urllib.parse import quote

USER = "test-user-1"
UNNAMED = "purchase"  # where no metric names an event type, and none has come
_AUTHORIZED = 'curl -H "Authorization: Bearer $TOKEN"'


class Calls(NamedTuple):
    """Each as a line for a shell that has `$TOKEN`."""

    assign: str
    event: str
    results: str


def calls(base: str, key: str, event_type: str | None) -> Calls:
    """The calls at a server (`https://host`) for the experiment of that key, with an event of that type."""
    server = base.rstrip("/")
    experiment = f"{server}/experiments/{quote(key, safe='')}"
    content = json.dumps({"user_id": USER, "event_type": event_type or UNNAMED}, ensure_ascii=False)
    return Calls(
        assign=f"{_AUTHORIZED} {shlex.quote(f'{experiment}/assignment/{USER}')}",
        event=f'{_AUTHORIZED} -H "Content-Type: application/json" -d {shlex.quote(content)} {shlex.quote(f"{server}/events")}',
        results=f"{_AUTHORIZED} {shlex.quote(f'{experiment}/results')}",
    )
