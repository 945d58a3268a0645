"""Deliveries: one message for one webhook, sent until it is delivered, given up, or nobody wants it any more.

attempt    1  2    3      4       5    6    7     8     9     10
after         5 s  5 min  30 min  2 h  5 h  10 h  14 h  20 h  24 h     since the attempt before: 75 hours in all

2xx delivers. 410 says that the receiver is gone: the webhook is disabled. Everything else is tried again: other statuses,
redirects, and attempts without an answer. A message keeps its id, so that a receiver who gets it twice can tell.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from upshot.webhooks.occasions import Notice, Occasion
from upshot.webhooks.payloads import payload_of
from upshot.webhooks.registration import DisabledBy, Webhook, disabled, secrets_at
from upshot.webhooks.signatures import signed_headers

DELAYS = tuple(
    timedelta(seconds=seconds) for seconds in (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
SPREAD = 0.1
PATIENCE = timedelta(days=3)
GONE = 410


class Failure(StrEnum):
    """Why an attempt has no answer. The words are shown to the client and say nothing about our side of the network."""

    UNREADABLE = "unreadable"
    REFUSED_ADDRESS = "refused_address"
    UNRESOLVABLE = "unresolvable"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    TLS = "tls"
    TOO_LARGE = "too_large"


Answer = int | Failure


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one webhook. `id` is the message's; `next_at` is when it is tried next, None when it no longer is.

    `last_answer` is the last attempt's status or failure, in words.
    """

    id: str
    webhook_id: str
    occasion: Occasion
    payload: str = field(repr=False)
    created_at: datetime
    next_at: datetime | None
    attempts: int = 0
    first_failed_at: datetime | None = None
    last_answer: str | None = None
    delivered_at: datetime | None = None
    given_up_at: datetime | None = None


def delivery_for(webhook: Webhook, notice: Notice, message_id: str, now: datetime) -> Delivery | None:
    """What a webhook is to be told of a notice, at once; None where it is disabled or did not ask."""
    if webhook.disabled_at is not None or notice.occasion not in webhook.occasions:
        return None
    return Delivery(message_id, webhook.id, notice.occasion, payload_of(notice, webhook.form), now, next_at=now)


def request_of(webhook: Webhook, delivery: Delivery, now: datetime) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an attempt at a moment."""
    body = delivery.payload.encode()
    headers = {"content-type": "application/json", "user-agent": "Upshot"}
    return headers | signed_headers(delivery.id, now, body, secrets_at(webhook, now)), body


def is_success(answer: Answer) -> bool:
    """Whether an answer says that the message arrived: a status of 200 to 299."""
    return isinstance(answer, int) and 200 <= answer < 300


def delay_before(attempt: int, jitter: float) -> timedelta | None:
    """How long after the attempt before it attempt 1, 2, … is made; None when there is none any more.

    Jitter, from 0 to 1, adds up to a tenth, so that what failed together is not tried again together.
    """
    return DELAYS[attempt - 1] * (1 + SPREAD * jitter) if attempt <= len(DELAYS) else None


def attempted(delivery: Delivery, answer: Answer, now: datetime, jitter: float) -> Delivery:
    """The delivery after an attempt that ended now."""
    attempts = delivery.attempts + 1
    tried = replace(delivery, attempts=attempts, last_answer=str(answer), next_at=None)
    if is_success(answer):
        return replace(tried, delivered_at=now)
    tried = replace(tried, first_failed_at=delivery.first_failed_at or now)
    delay = None if answer == GONE else delay_before(attempts + 1, jitter)
    return replace(tried, given_up_at=now) if delay is None else replace(tried, next_at=now + delay)


def standing(webhook: Webhook, answer: Answer, now: datetime) -> Webhook:
    """The webhook after an attempt that ended now: on, or disabled, being gone or failing for three days without a success."""
    if is_success(answer):
        return replace(webhook, failing_since=None)
    if answer == GONE:
        return disabled(webhook, DisabledBy.GONE, now)
    failing = replace(webhook, failing_since=webhook.failing_since or now)
    return failing if now - (failing.failing_since or now) < PATIENCE else disabled(failing, DisabledBy.FAILING, now)
