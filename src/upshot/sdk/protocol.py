"""What a client does with the server, without doing it: what to ask next, and how an answer changes what is known.

No I/O, no clock, no randomness of its own: moments are arguments, so a test can live through a day in a millisecond. Both
clients do only this, in a thread or in a task:

    step = protocol.next(now, wall)         a request to carry out, or until when to wait
    protocol.answered(step, answer, …)      None for an answer that did not come in time
"""

import math
from datetime import datetime
from typing import NamedTuple

from upshot.sdk.delivery import Delivery
from upshot.sdk.exchange import Answer, Occasion, Purpose, Request
from upshot.sdk.polling import Polling
from upshot.sdk.stored import Question, StoredAssignments
from upshot.snapshot import Snapshot


class Outcome(NamedTuple):
    """What an answer changed: another configuration, if there is one, and what happened."""

    snapshot: Snapshot | None = None
    occasions: tuple[Occasion, ...] = ()


class Protocol:
    """One conversation with the server, one request at a time. `now` is of a monotonic clock in seconds, `wall` the time of day.

    Args:
        polling: the configuration.
        delivery: exposures and events.
        stored: what the server was asked about single users; None where it is not asked.
    """

    def __init__(self, polling: Polling, delivery: Delivery, stored: StoredAssignments | None) -> None:
        self.polling = polling
        self.delivery = delivery
        self.stored = stored
        self._question: Question | None = None

    def next(self, now: float, wall: datetime, *, hurry: bool = False) -> Request | float:
        """The request that is due, or when one will be. In a hurry, only what waits is sent, and at once."""
        delivery = self.delivery.next(now, wall, hurry=hurry)
        if hurry:
            return delivery
        polling = self.polling.next(now)
        if isinstance(polling, Request):
            return polling  # first: it is asked for rarely, and what waits is sent in batches however late
        if isinstance(delivery, Request):
            return delivery
        question = self.stored.next(now) if self.stored else math.inf
        if isinstance(question, Question):
            self._question = question
            return question.request
        return min(polling, delivery, question)

    def answered(self, request: Request, answer: Answer | None, now: float, wall: datetime) -> Outcome:
        """Take in the answer to the last request; None where there was none in time."""
        if request.purpose is Purpose.CONFIGURATION:
            return Outcome(*self.polling.answered(answer, now, wall))
        if request.purpose is Purpose.DELIVERY:
            self.delivery.answered(answer, now, wall)
        elif self.stored is not None and self._question is not None:
            self.stored.answered(self._question, answer, now)
        return Outcome()

    def abandon(self) -> None:
        """In a process that was forked: what was under way is the parent's."""
        self.delivery.abandon()
        self._question = None
        self.polling.streaming = False
        if self.stored is not None:
            self.stored.abandon()
