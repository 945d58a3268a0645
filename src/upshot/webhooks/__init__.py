"""Webhooks: what is told, to whom, in which form, signed how, and when it is tried again. Pure: `upshot.outbound` sends it.

    notice = webhooks.of_change(before, after)                      what happened, if it is worth telling
    delivery = webhooks.delivery_for(webhook, notice, message_id)   the message of a webhook that wants to know
    headers, body = webhooks.request_of(webhook, delivery, now)     what is sent, signed at the moment of the attempt
    delivery = webhooks.attempted(delivery, answer, now, jitter)    delivered, to be tried again, or given up
    webhook = webhooks.standing(webhook, answer, now)               or disabled, after three days of failures

Payloads, headers, signatures and retries follow Standard Webhooks 1.0.0.
"""

from upshot.webhooks.deliveries import (
    DELAYS,
    Answer,
    Delivery,
    Failure,
    attempted,
    delay_before,
    delivery_for,
    is_success,
    request_of,
    standing,
)
from upshot.webhooks.destinations import PORTS, Destination, check_url, destination_of
from upshot.webhooks.occasions import Breach, Mismatch, Notice, Occasion, breached, mismatched, of_change
from upshot.webhooks.payloads import Form, payload_of
from upshot.webhooks.registration import DisabledBy, Webhook, create, disabled, enabled, rotated, secrets_at
from upshot.webhooks.signatures import check_secret, secret_of, signed_headers, verify

__all__ = [
    "DELAYS",
    "PORTS",
    "Answer",
    "Breach",
    "Delivery",
    "Destination",
    "DisabledBy",
    "Failure",
    "Form",
    "Mismatch",
    "Notice",
    "Occasion",
    "Webhook",
    "attempted",
    "breached",
    "check_secret",
    "check_url",
    "create",
    "delay_before",
    "delivery_for",
    "destination_of",
    "disabled",
    "enabled",
    "is_success",
    "mismatched",
    "of_change",
    "payload_of",
    "request_of",
    "rotated",
    "secret_of",
    "secrets_at",
    "signed_headers",
    "standing",
    "verify",
]
