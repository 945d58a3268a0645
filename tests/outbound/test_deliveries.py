"""From a change of an experiment to a receiver that fails at first: the message arrives, with one id, and can be verified."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks
from tests.core.notices import notices
from tests.outbound.authority import Authority
from tests.outbound.receivers import NAME, Receiver, answers, landing, leading, receiver

from upshot import webhooks
from upshot.outbound import Outbound
from upshot.webhooks import Delivery, Form, Occasion, Webhook

KEY = bytes(range(48))
SECRET = webhooks.secret_of(KEY)


def webhook(form: str = "standard") -> Webhook:
    """A webhook that wants to know everything."""
    return webhooks.create("w1", f"https://{NAME}/upshot", list(Occasion), form, SECRET, datetime.now(UTC))


async def carried_out(outbound: Outbound, listening: Webhook, sent: Delivery) -> tuple[Webhook, Delivery]:
    """What becomes of a delivery whose time passes as quickly as it can."""
    while sent.next_at is not None:
        now = sent.next_at
        headers, body = webhooks.request_of(listening, sent, now)
        answer = await outbound.post(listening.url, headers, body)
        sent, listening = webhooks.attempted(sent, answer, now, 0.0), webhooks.standing(listening, answer, now)
    return listening, sent


async def told(
    folder: Path, statuses: tuple[int, ...], form: str = "standard", occasion: Occasion = Occasion.STARTED
) -> tuple[Receiver, Webhook, Delivery]:
    """A receiver that answers so, after everything was tried."""
    authority = Authority(folder)
    async with receiver(answers(*statuses), authority.server(NAME)) as there:
        outbound = Outbound(landing(there.port), leading({NAME: ["8.8.8.8"]}), authority.trusted())
        sent = webhooks.delivery_for(webhook(form), notices()[occasion], "m1", datetime.now(UTC))
        assert sent is not None
        return there, *(await carried_out(outbound, webhook(form), sent))


async def test_a_receiver_that_fails_five_times_is_told_in_the_end(tmp_path: Path) -> None:
    """Six times the same id and body, each signed for its own moment; a receiver who counts ids counts one."""
    there, listening, sent = await told(tmp_path, (500, 503, 404, 302, 429, 204))

    assert sent.delivered_at is not None
    assert (sent.attempts, listening.failing_since) == (6, None)
    assert {(r.headers["webhook-id"], r.body) for r in there.requests} == {("m1", sent.payload.encode())}
    assert len({r.headers["webhook-timestamp"] for r in there.requests}) == 6
    for request in there.requests:
        moment = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
        signature = standardwebhooks.Webhook(SECRET).sign("m1", moment, request.body.decode())
        assert request.headers["webhook-signature"] == signature
        assert webhooks.verify(request.headers, request.body, [SECRET], moment)


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("occasion", Occasion)
async def test_every_message_is_taken_by_the_library_of_standard_webhooks(
    tmp_path: Path, occasion: Occasion, form: Form
) -> None:
    """As it came over the wire, at the time at which it came; and not with a byte changed."""
    there, _, sent = await told(tmp_path, (200,), form, occasion)

    (request,) = there.requests
    taken = standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)
    assert taken == json.loads(sent.payload)
    assert request.headers["content-type"] == "application/json"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(request.body.replace(b"Button", b"Buttom"), request.headers)


async def test_a_receiver_that_is_gone_is_not_asked_again(tmp_path: Path) -> None:
    """410 is the last word."""
    there, listening, sent = await told(tmp_path, (500, 410))

    assert (len(there.requests), sent.attempts) == (2, 2)
    assert sent.given_up_at is not None
    assert listening.disabled_reason == "gone"


async def test_a_url_that_was_changed_in_the_store_does_not_lead_inside(tmp_path: Path) -> None:
    """The sender looks at it again, whoever wrote the row."""
    authority, row = Authority(tmp_path), replace(webhook(), url="https://127.0.0.1/")
    async with receiver(answers(200), authority.server(NAME)) as there:
        outbound = Outbound(landing(there.port), leading({NAME: ["8.8.8.8"]}), authority.trusted())
        sent = webhooks.delivery_for(row, notices()[Occasion.STARTED], "m1", datetime.now(UTC))
        assert sent is not None
        listening, sent = await carried_out(outbound, row, sent)

    assert (there.connections, sent.last_answer) == (0, "refused_address")
    assert listening.disabled_reason == "failing"
