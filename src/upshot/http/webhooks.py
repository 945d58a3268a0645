"""Webhooks over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Response
from pydantic import BaseModel, Field

from upshot.http.access import Admin
from upshot.http.cursors import Limit
from upshot.http.once import OnceRoute
from upshot.http.openapi import json_body, problems, reader
from upshot.http.routing import Router
from upshot.http.stores import StoresOf
from upshot.http.wire import In
from upshot.operations import webhooks
from upshot.webhooks import Delivery, Webhook

router = Router(prefix="/webhooks", tags=["webhooks"], route_class=OnceRoute)

OccasionWord = Literal[
    "experiment.started", "experiment.changed", "experiment.completed", "guardrail.breached", "sample_ratio.alarm"
]
Url = Annotated[str, Field(min_length=1, max_length=2_000, examples=["https://hooks.example.com/upshot"])]
Occasions = Annotated[list[OccasionWord], Field(min_length=1, max_length=5)]
FormWord = Literal["standard", "slack"]


class WebhookIn(In):
    """A place that wants to be told: an https URL of the public internet, and of what."""

    url: Url
    occasions: Occasions
    form: FormWord = Field(
        "standard", description="Standard Webhooks, or a message as Slack's incoming webhooks take it."
    )


class WebhookPatch(In):
    """What may be changed of a webhook."""

    url: Url | None = None
    occasions: Occasions | None = None
    form: FormWord | None = None
    disabled: bool | None = Field(None, description="false: send again, with failures forgotten.")


class WebhookOut(BaseModel):
    """A webhook, without its secret. `failing_since` is the first failure since the last success.

    `url` is null where the key that sealed it is no longer configured; such a webhook can only be removed.
    """

    id: str
    url: str | None
    occasions: list[str]
    form: str
    created_at: datetime
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None

    @classmethod
    def fields_of(cls, webhook: Webhook) -> dict[str, Any]:
        """The fields of the wire form."""
        own = {name: getattr(webhook, name) for name in cls.model_fields}
        return own | {"url": webhook.url or None, "occasions": sorted(webhook.occasions)}


class NewWebhookOut(WebhookOut):
    """A webhook with the secret that its messages are signed with, shown once."""

    secret: str


class WebhooksOut(BaseModel):
    """All webhooks of the client, the newest first."""

    webhooks: list[WebhookOut]


class DeliveryOut(BaseModel):
    """A message and what became of it; `last_answer` is the receiver's status, or why there was none."""

    id: str
    occasion: str
    payload: str
    created_at: datetime
    next_at: datetime | None
    attempts: int
    last_answer: str | None
    delivered_at: datetime | None
    given_up_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryOut":
        """The wire form of a delivery."""
        return cls(**{name: getattr(delivery, name) for name in cls.model_fields})


class DeliveriesOut(BaseModel):
    """The last deliveries of a webhook, the newest first."""

    deliveries: list[DeliveryOut]


@router.post("", status_code=201, responses=problems(403, 409, 413, 415), openapi_extra=json_body(WebhookIn))
async def create(
    caller: Admin, stores: StoresOf, wanted: Annotated[WebhookIn, Depends(reader(WebhookIn))], response: Response
) -> NewWebhookOut:
    """Register a webhook. The answer is the only place where its secret is ever shown."""
    webhook, secret = await webhooks.create(stores, caller, wanted.url, wanted.occasions, wanted.form)
    response.headers["Location"] = f"/webhooks/{webhook.id}"
    return NewWebhookOut(**WebhookOut.fields_of(webhook), secret=secret)


@router.get("", responses=problems(403))
async def every(caller: Admin, stores: StoresOf) -> WebhooksOut:
    """All webhooks of the client, the newest first."""
    found = await webhooks.every(stores, caller.client)
    return WebhooksOut(webhooks=[WebhookOut(**WebhookOut.fields_of(webhook)) for webhook in found])


@router.get("/{webhook_id}", responses=problems(403, 404))
async def read(caller: Admin, stores: StoresOf, webhook_id: str) -> WebhookOut:
    """One webhook."""
    return WebhookOut(**WebhookOut.fields_of(await webhooks.read(stores, caller.client, webhook_id)))


@router.patch("/{webhook_id}", responses=problems(403, 404, 409, 413, 415), openapi_extra=json_body(WebhookPatch))
async def change(
    caller: Admin, stores: StoresOf, webhook_id: str, wanted: Annotated[WebhookPatch, Depends(reader(WebhookPatch))]
) -> WebhookOut:
    """Change a webhook, or switch it off and on."""
    changes = wanted.model_dump(exclude_none=True)
    return WebhookOut(**WebhookOut.fields_of(await webhooks.change(stores, caller, webhook_id, changes)))


@router.post("/{webhook_id}/rotate", status_code=201, responses=problems(403, 404, 409))
async def rotate(caller: Admin, stores: StoresOf, webhook_id: str) -> NewWebhookOut:
    """A new secret, shown once; for a day messages are signed with both."""
    webhook, secret = await webhooks.rotate(stores, caller, webhook_id)
    return NewWebhookOut(**WebhookOut.fields_of(webhook), secret=secret)


@router.delete("/{webhook_id}", status_code=204, responses=problems(403, 404))
async def remove(caller: Admin, stores: StoresOf, webhook_id: str) -> None:
    """Remove a webhook with what waits to be sent to it."""
    await webhooks.remove(stores, caller, webhook_id)


@router.get("/{webhook_id}/deliveries", responses=problems(403, 404))
async def deliveries(caller: Admin, stores: StoresOf, webhook_id: str, limit: Limit = 50) -> DeliveriesOut:
    """What was sent, and what became of it; kept for 30 days."""
    found = await webhooks.deliveries(stores, caller.client, webhook_id, limit)
    return DeliveriesOut(deliveries=[DeliveryOut.of(delivery) for delivery in found])


@router.post("/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=202, responses=problems(403, 404, 409))
async def redeliver(caller: Admin, stores: StoresOf, webhook_id: str, delivery_id: str) -> DeliveryOut:
    """Send a message once more, with its own id."""
    return DeliveryOut.of(await webhooks.redeliver(stores, caller, webhook_id, delivery_id))
