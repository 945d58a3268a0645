"""Server-sent events, as far as the server's stream of changes needs them. No I/O.

The stream says only that there is another configuration: `data: {"type": "refetchEvaluation", "etag": "…"}`. Comments, which come
every 15 seconds, say that it is alive.
"""

import codecs
import json
from dataclasses import dataclass
from datetime import datetime

from upshot.sdk.exchange import Jitter
from upshot.sdk.polling import Polling
from upshot.sdk.retries import LOCKED_OUT, Backoff

PATH = "/sdk/stream"
SILENCE = 45.0
"""Seconds without a byte after which a stream is taken for dead: three signs of life did not come."""
_LONGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """That there is another configuration, and its ETag where that was told."""

    etag: str | None


class StreamReader:
    """Reads changes out of the bytes of a stream, however they are cut."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Change]:
        """The changes that are complete with these bytes."""
        text = self._rest + self._decoder.decode(chunk)
        held = text[-1:] == "\r"  # the line feed may come with the next bytes
        lines = (text[:-1] if held else text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = (lines.pop() + ("\r" if held else ""))[-_LONGEST:]
        changes = []
        for line in lines:
            if line:
                self._field(line)
            elif (change := self._change()) is not None:
                changes.append(change)
        return changes

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name == "data" and len(self._data) < 100:
            self._data.append(value.removeprefix(" "))

    def _change(self) -> Change | None:
        data, self._data = "\n".join(self._data), []
        try:
            told = json.loads(data)
        except (ValueError, RecursionError):
            return None
        if not isinstance(told, dict) or told.get("type") != "refetchEvaluation":
            return None
        etag = told.get("etag")
        return Change(etag if isinstance(etag, str) else None)


class Stream:
    """What a stream does to polling: while it is there, it says when to ask; when it breaks, polling goes on as without it."""

    def __init__(self, polling: Polling, jitter: Jitter) -> None:
        self._polling = polling
        self._jitter = jitter
        self._backoff = Backoff(LOCKED_OUT)
        self._reader = StreamReader()

    def opened(self) -> None:
        """The server began to answer. What happened before is not told again: ask."""
        self._reader = StreamReader()
        self._polling.streaming = True
        self._polling.hint()

    def fed(self, chunk: bytes, wall: datetime) -> bool:
        """Bytes came; whether there is something to ask for."""
        self._backoff.end()
        self._polling.alive(wall)
        changes = self._reader.feed(chunk)
        for change in changes:
            self._polling.hint(change.etag)
        return bool(changes)

    def ended(self) -> float:
        """The stream broke, or there is none; seconds until it is tried again."""
        if self._polling.streaming:
            self._polling.streaming = False
            self._polling.hint()
        return self._backoff.wait(self._jitter())
