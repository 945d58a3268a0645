"""Webhooks as a client registers them: where to, for which occasions, in which form, under which secret, on or off."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from upshot.errors import Fault, Invalid
from upshot.webhooks.destinations import check_url
from upshot.webhooks.occasions import Occasion
from upshot.webhooks.payloads import Form
from upshot.webhooks.signatures import check_secret

OVERLAP = timedelta(days=1)


class DisabledBy(StrEnum):
    """Why nothing is sent to a webhook any more."""

    USER = "user"
    GONE = "gone"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One place that wants to be told. `failing_since` is the first failure since the last success.

    A secret that was replaced signs along until `former_until`. The URL counts as a secret too: whoever knows that of a Slack
    channel can write there, so neither is shown where records are printed.
    """

    id: str
    url: str = field(repr=False)
    occasions: frozenset[Occasion]
    form: Form
    secret: str = field(repr=False)
    created_at: datetime
    former_secret: str | None = field(default=None, repr=False)
    former_until: datetime | None = None
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    disabled_reason: DisabledBy | None = None


def create(webhook_id: str, url: str, occasions: Collection[str], form: str, secret: str, now: datetime) -> Webhook:
    """A new webhook.

    Raises:
        Invalid: the URL, an occasion, the form or the secret breaks its rule.
    """
    faults = [check_url(url), check_secret(secret)]
    if not occasions or not set(occasions) <= set(Occasion):
        faults.append(Fault("/occasions", "bad_occasion", f"must list some of {', '.join(Occasion)}"))
    if form not in set(Form):
        faults.append(Fault("/form", "bad_form", f"must be {' or '.join(Form)}"))
    found = [fault for fault in faults if fault]
    if found:
        raise Invalid.of(*found)
    return Webhook(webhook_id, url, frozenset(map(Occasion, occasions)), Form(form), secret, now)


def rotated(webhook: Webhook, secret: str, now: datetime) -> Webhook:
    """The webhook with another secret; the former one signs along for a day.

    Raises:
        Invalid: the secret breaks its rule.
    """
    if fault := check_secret(secret):
        raise Invalid.of(fault)
    return replace(webhook, secret=secret, former_secret=webhook.secret, former_until=now + OVERLAP)


def secrets_at(webhook: Webhook, now: datetime) -> tuple[str, ...]:
    """The secrets to sign with, the newest first."""
    if webhook.former_secret is None or webhook.former_until is None or now >= webhook.former_until:
        return (webhook.secret,)
    return webhook.secret, webhook.former_secret


def disabled(webhook: Webhook, reason: DisabledBy, now: datetime) -> Webhook:
    """The webhook switched off; the first reason stays."""
    if webhook.disabled_at is not None:
        return webhook
    return replace(webhook, disabled_at=now, disabled_reason=reason)


def enabled(webhook: Webhook) -> Webhook:
    """The webhook switched on again, with its failures forgotten."""
    return replace(webhook, disabled_at=None, disabled_reason=None, failing_since=None)
