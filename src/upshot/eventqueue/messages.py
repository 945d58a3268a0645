"""What travels through a queue: one client's events as JSON, with a version, so that a later program can read an older one's.

An event without an ordinal is written as it was before there were any, so that an earlier program can read it, too.
"""

from collections.abc import Iterator, Sequence

import msgspec

from upshot.events import Event

VERSION = 1
LARGEST = 200_000  # bytes; SQS takes 256 KiB with its attributes


class Poison(Exception):
    """A message that no retry will make readable; says why."""


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    client: str
    events: list[Event]


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(_Message)


def encode(client: str, events: Sequence[Event]) -> bytes:
    """One message."""
    return _encode((VERSION, client, [event[:-1] if event.ordinal is None else event for event in events]))


def split(client: str, events: Sequence[Event], largest: int = LARGEST) -> Iterator[bytes]:
    """As few messages as keep each below `largest` bytes; an event that is larger travels alone."""
    body = encode(client, events)
    if len(body) <= largest or len(events) == 1:
        yield body
        return
    middle = len(events) // 2
    yield from split(client, events[:middle], largest)
    yield from split(client, events[middle:], largest)


def decode(body: bytes) -> tuple[str, list[Event]]:
    """The client and the events of a message.

    Raises:
        Poison: it is not a message of ours.
    """
    try:
        message = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Poison(f"unreadable: {error}") from None
    if message.version != VERSION:
        raise Poison(f"unreadable: message version {message.version}, this program reads {VERSION}")
    if not message.client or not message.events:
        raise Poison("unreadable: no client or no events")
    return message.client, message.events
