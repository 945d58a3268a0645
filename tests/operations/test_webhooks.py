"""Webhooks end to end: a change is told in its own transaction, delivered by whichever process takes it, retried, disabled;
alarms once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from tests.callers import somebody, stored_in
from tests.outbound.authority import Authority
from tests.outbound.receivers import NAME, Receiver, answers, landing, leading, receiver

from upshot.access.keyring import Keyring
from upshot.clock import FixedClock
from upshot.errors import Conflict, Invalid, NotFound
from upshot.experiments import Draft, Experiment
from upshot.operations import Stores, alarms, audit, elsewhere, experiments, results, webhooks
from upshot.outbound import Outbound
from upshot.variants import VariantDraft
from upshot.webhooks import Occasion

URL = f"https://{NAME}/upshot"
EVERY = sorted(Occasion)
ONE = somebody("one")


class Listening:
    """Stores whose webhooks reach a real receiver over TLS, whatever they are called."""

    def __init__(self, stores: Stores, there: Receiver) -> None:
        self.stores, self.there = stores, there

    @property
    def told(self) -> list[tuple[str, Any]]:
        """What the receiver got: type and document, in order."""
        found = [json.loads(request.body) for request in self.there.requests]
        return [(document["type"], document["data"]) for document in found]


@pytest.fixture
async def listening(stores: Stores, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Listening]:
    """A receiver that answers 204, or what the test's parameter says."""
    authority = Authority(tmp_path)
    statuses = getattr(request, "param", (204,))
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(receiver(answers(*statuses), authority.server(NAME)))
        outbound = Outbound(landing(there.port), leading({NAME: ["8.8.8.8"]}), authority.trusted())
        object.__setattr__(stores, "outbound", outbound)
        yield Listening(stores, there)


async def made(stores: Stores, **fields: Any) -> Experiment:
    """A running experiment."""
    draft = Draft("Checkout", (VariantDraft("a"), VariantDraft("b")), **fields)
    return await experiments.create(stores, ONE, draft)


async def test_what_happens_to_an_experiment_is_told(listening: Listening) -> None:
    """Start, change, end; signed with the secret that was shown once, in a form that the reference verifies."""
    stores = listening.stores
    _, secret = await webhooks.create(stores, ONE, URL, EVERY, "standard")
    experiment = await made(stores)
    await experiments.change(stores, ONE, experiment.id, {"name": "Cart"}, None)
    await experiments.move(stores, ONE, experiment.id, "complete")

    tried = await webhooks.deliver(stores)

    assert tried == 3
    assert sorted(kind for kind, _ in listening.told) == [
        "experiment.changed",
        "experiment.completed",
        "experiment.started",
    ]
    for request in listening.there.requests:
        headers = {name: request.headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
        moment = int(headers["webhook-timestamp"])
        assert moment == int(stores.clock.now().timestamp())
        verifier = standardwebhooks.Webhook(secret)
        assert (
            verifier.sign(headers["webhook-id"], stores.clock.now(), request.body.decode())
            == headers["webhook-signature"]
        )
    assert await webhooks.deliver(stores) == 0


async def test_only_those_are_told_who_want_to_know(listening: Listening) -> None:
    """Of what they named, of their own client, while they are on."""
    stores = listening.stores
    await webhooks.create(stores, ONE, URL, ["experiment.completed"], "standard")
    await webhooks.create(stores, somebody("two"), URL, EVERY, "standard")
    off, _ = await webhooks.create(stores, ONE, URL, EVERY, "slack")
    await webhooks.change(stores, ONE, off.id, {"disabled": True})

    await made(stores)

    assert await webhooks.deliver(stores) == 0
    assert listening.there.requests == []


async def test_a_change_that_fails_tells_nothing(listening: Listening) -> None:
    """What is told is written in the transaction of the change: both or none."""
    stores = listening.stores
    await webhooks.create(stores, ONE, URL, EVERY, "standard")
    experiment = await made(stores, key="mine")

    with pytest.raises(Conflict):
        await experiments.change(stores, ONE, experiment.id, {"name": "x"}, 99)
    with pytest.raises(Conflict):
        await made(stores, key="mine")

    assert await webhooks.deliver(stores) == 1


@pytest.mark.parametrize("listening", [(500, 503, 500, 500, 500, 204)], indirect=True)
async def test_a_receiver_that_fails_five_times_is_told_in_the_end(listening: Listening, clock: FixedClock) -> None:
    """With one id; between the attempts passes what the schedule says."""
    stores = listening.stores
    hook, _ = await webhooks.create(stores, ONE, URL, ["experiment.started"], "standard")
    await made(stores)
    for _ in range(40):
        await webhooks.deliver(stores)
        clock.advance(minutes=30)

    (delivery,) = await webhooks.deliveries(stores, "one", hook.id, 10)
    assert (delivery.attempts, delivery.last_answer, delivery.delivered_at is not None) == (6, "204", True)
    assert {request.headers["webhook-id"] for request in listening.there.requests} == {delivery.id}
    assert (await webhooks.read(stores, "one", hook.id)).failing_since is None


@pytest.mark.parametrize("listening", [(410,)], indirect=True)
async def test_a_receiver_that_is_gone_is_disabled(listening: Listening) -> None:
    """And what waits for it is given up; enabled again, it is told of what comes then."""
    stores = listening.stores
    hook, _ = await webhooks.create(stores, ONE, URL, EVERY, "standard")
    experiment = await made(stores)

    await webhooks.deliver(stores)
    await experiments.change(stores, ONE, experiment.id, {"name": "Cart"}, None)

    gone = await webhooks.read(stores, "one", hook.id)
    assert (gone.disabled_reason, await webhooks.deliver(stores)) == ("gone", 0)
    await webhooks.change(stores, ONE, hook.id, {"disabled": False})
    await experiments.move(stores, ONE, experiment.id, "pause")
    assert await webhooks.deliver(stores) == 1


async def test_two_processes_send_a_message_once(listening: Listening) -> None:
    """Each takes other ones; what a killed process took is taken by another one a minute later."""
    stores = listening.stores
    await webhooks.create(stores, ONE, URL, ["experiment.started"], "standard")
    for number in range(12):
        await made(stores, key=f"k{number}")

    tried = await asyncio.gather(*(webhooks.deliver(stores) for _ in range(4)))

    assert sum(tried) == 12
    assert (
        len({request.headers["webhook-id"] for request in listening.there.requests})
        == 12
        == len(listening.there.requests)
    )


async def test_what_a_killed_process_took_is_taken_again(listening: Listening, clock: FixedClock) -> None:
    """A minute later, with its own id."""
    stores = listening.stores
    await webhooks.create(stores, ONE, URL, ["experiment.started"], "standard")
    await made(stores)
    taken = await stores.control.take_deliveries(clock.now(), clock.now() + webhooks.HELD, 10)

    at_once = await webhooks.deliver(stores)
    clock.advance(seconds=webhooks.HELD.total_seconds())
    later = await webhooks.deliver(stores)

    assert (len(taken), at_once, later) == (1, 0, 1)
    assert [request.headers["webhook-id"] for request in listening.there.requests] == [taken[0][1].id]


async def test_a_secret_is_rotated_without_a_gap(listening: Listening, clock: FixedClock) -> None:
    """For a day a message carries both signatures."""
    stores = listening.stores
    hook, old = await webhooks.create(stores, ONE, URL, EVERY, "standard")
    _, new = await webhooks.rotate(stores, ONE, hook.id)
    experiment = await made(stores)
    await webhooks.deliver(stores)
    clock.advance(days=1)
    await experiments.move(stores, ONE, experiment.id, "pause")
    await webhooks.deliver(stores)

    signatures = [len(request.headers["webhook-signature"].split()) for request in listening.there.requests]
    assert old != new
    assert signatures == [2, 1]


async def test_neither_secret_nor_url_is_readable_in_the_store(listening: Listening, tmp_path: Path) -> None:
    """Nor in the audit log, which names the host."""
    stores = listening.stores
    hook, secret = await webhooks.create(stores, ONE, f"{URL}/with/a/secret/path", EVERY, "slack")

    written = stored_in(tmp_path)
    entry = (await audit.read(stores, "one")).entries[0]

    assert hook.url.endswith("/secret/path")
    assert b"secret/path" not in written
    assert secret.encode() not in written
    assert entry.after is not None
    assert entry.after["host"] == NAME
    assert "secret/path" not in json.dumps(entry.after)


async def test_a_message_is_sent_once_more_on_request(listening: Listening) -> None:
    """With its own id; what is not there cannot be."""
    stores = listening.stores
    hook, _ = await webhooks.create(stores, ONE, URL, ["experiment.started"], "standard")
    await made(stores)
    await webhooks.deliver(stores)
    (delivery,) = await webhooks.deliveries(stores, "one", hook.id, 10)

    await webhooks.redeliver(stores, ONE, hook.id, delivery.id)
    await webhooks.deliver(stores)

    assert [request.headers["webhook-id"] for request in listening.there.requests] == [delivery.id] * 2
    with pytest.raises(NotFound):
        await webhooks.redeliver(stores, ONE, hook.id, "nothing")
    with pytest.raises(NotFound):
        await webhooks.redeliver(stores, somebody("two"), hook.id, delivery.id)


async def test_what_leads_inside_is_refused(stores: Stores) -> None:
    """When it is registered and when it is changed; and twenty are enough."""
    hook, _ = await webhooks.create(stores, ONE, URL, EVERY, "standard")

    for url in (
        "http://hooks.example.com/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://169.254.169.254/",
        "https://a@b.example/",
    ):
        with pytest.raises(Invalid):
            await webhooks.create(stores, ONE, url, EVERY, "standard")
        with pytest.raises(Invalid):
            await webhooks.change(stores, ONE, hook.id, {"url": url})
    for _ in range(webhooks.MOST - 1):
        await webhooks.create(stores, ONE, URL, EVERY, "standard")
    with pytest.raises(Conflict):
        await webhooks.create(stores, ONE, URL, EVERY, "standard")


async def test_ended_deliveries_are_forgotten_after_a_month(listening: Listening, clock: FixedClock) -> None:
    """Those that go on are kept."""
    stores = listening.stores
    hook, _ = await webhooks.create(stores, ONE, URL, EVERY, "standard")
    experiment = await made(stores)
    await webhooks.deliver(stores)
    clock.advance(days=31)
    await experiments.move(stores, ONE, experiment.id, "pause")

    assert await webhooks.forget(stores) == 1
    assert len(await webhooks.deliveries(stores, "one", hook.id, 10)) == 1


async def test_a_harmed_guardrail_raises_an_alarm_once(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is looked at; the message has the lift and its interval. Nobody is watched for who does not listen."""
    stores = listening.stores
    experiment = await made(
        stores, guardrails=[{"event_type": "error", "direction": "decrease"}], primary_metric="purchase"
    )
    assert await alarms.watch(stores) == 0
    report = await results.report(stores, "one", experiment.id, results.Asked())

    def found(verdict: str) -> None:
        guarded = [each for each in report.comparisons if each.role == "guardrail"]
        judged = [replace(each, guardrail=verdict, relative_lift=0.4) for each in guarded]

        async def judging(*_: object) -> Any:
            return replace(report, comparisons=judged)

        monkeypatch.setattr(results, "report", judging)

    found("harmed")
    unheard = await alarms.watch(stores)
    await webhooks.create(stores, ONE, URL, ["guardrail.breached"], "standard")
    for verdict in ("safe", "inconclusive"):
        found(verdict)
        assert await alarms.watch(stores) == 0
    found("harmed")
    raised = [await alarms.watch(stores) for _ in range(3)]
    await webhooks.deliver(stores)

    assert (unheard, raised) == (0, [1, 0, 0])
    ((kind, data),) = listening.told
    assert kind == "guardrail.breached"
    assert (data["guardrail"]["metric"], data["guardrail"]["variant"], data["guardrail"]["lift"]) == ("error", "b", 0.4)


async def test_users_who_do_not_arrive_as_planned_raise_an_alarm_once(listening: Listening) -> None:
    """By the test that holds at every look, over the real store: 400 to 100 where halves were planned; an even split raises
    none."""
    stores = listening.stores
    await webhooks.create(stores, ONE, URL, EVERY[-1:], "standard")
    even, odd = await made(stores, key="even"), await made(stores, key="odd")
    for experiment, shares in ((even, (250, 250)), (odd, (400, 100))):
        rows = [
            (number, elsewhere.Elsewhere(f"user-{number}", "ab"[number >= shares[0]], stores.clock.now(), {}))
            for number in range(sum(shares))
        ]
        await elsewhere.import_assignments(stores, ONE, experiment.id, rows)

    raised = [await alarms.watch(stores) for _ in range(3)]
    await webhooks.deliver(stores)

    assert raised == [1, 0, 0]
    ((kind, data),) = listening.told
    assert (kind, data["experiment"]["key"]) == ("sample_ratio.alarm", "odd")
    assert data["sample_ratio"]["observed"] == {"a": 400, "b": 100}


async def test_what_was_sealed_with_a_lost_key_holds_up_nobody(listening: Listening) -> None:
    """It is listed without its URL and can be removed; its messages wait for the key, and others are delivered meanwhile."""
    stores, kept = listening.stores, listening.stores.keyring
    lost, _ = await webhooks.create(stores, ONE, URL, EVERY, "standard")
    object.__setattr__(stores, "keyring", Keyring.ephemeral())
    await webhooks.create(stores, ONE, URL, EVERY, "standard")
    await made(stores)

    tried = await webhooks.deliver(stores)

    assert (tried, len(listening.told)) == (2, 1)
    waiting = (await webhooks.deliveries(stores, "one", lost.id, 50))[0]
    assert (waiting.last_answer, waiting.attempts, waiting.next_at is None) == ("unreadable", 1, False)
    assert sorted(webhook.url for webhook in await webhooks.every(stores, "one")) == ["", URL]
    with pytest.raises(Conflict, match="another JWT_SECRET_KEY"):
        await webhooks.rotate(stores, ONE, lost.id)

    object.__setattr__(stores, "keyring", kept)
    assert isinstance(stores.clock, FixedClock)
    stores.clock.advance(seconds=10)
    await webhooks.deliver(stores)
    assert (await webhooks.deliveries(stores, "one", lost.id, 50))[0].last_answer == "204"

    object.__setattr__(stores, "keyring", Keyring.ephemeral())
    await webhooks.remove(stores, ONE, lost.id)
    assert [webhook.id == lost.id for webhook in await webhooks.every(stores, "one")] == [False]
