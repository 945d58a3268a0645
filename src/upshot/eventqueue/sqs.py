"""The queue in Amazon SQS, fed directly or through an SNS topic: `sqs://region` or `sqs://region/queue-name`.

Parameters: `topic` (the ARN of an SNS topic to publish to, with raw delivery to the queue), `dead` (the dead-letter queue,
`<queue>-dead`), `visibility` (30; seconds after which what was handed out and not acknowledged is handed out again), `endpoint`
(the URL of a stand-in for AWS) and `create` (0; with 1, what is missing is created, and `topic` may be a plain name). Credentials
come from where AWS's own tools take them, never from the URL.

Without `create` the queue needs a redrive policy with a maxReceiveCount of 5 to the dead-letter queue. Messages that wait at the
same moment share one call. Both services store a message on several servers before they answer, and keep it for 14 days at most.

SQS cannot show a queue: to look at the dead letters is to receive them and make them visible again.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from upshot.errors import Unavailable
from upshot.eventqueue import DeadLetter, Delivery, messages
from upshot.eventqueue.adapters import (
    EXHAUSTED,
    QUEUE,
    SECONDS,
    Address,
    bounded,
    checked_name,
    moment,
    refuse,
)
from upshot.eventqueue.sqsresources import Names, Resources
from upshot.events import Event
from upshot.groupcommit import GroupCommit

BATCH = 10  # messages in one call
BATCH_BYTES = 250_000  # bytes in one call, less what the envelope takes
LONGEST_WAIT = 20  # seconds a call may wait for a message
LOOKING = 30  # seconds for which a dead letter is invisible while it is looked at
REASON_LENGTH = 1_000

_FAILURES = (BotoCoreError, ClientError)


class SqsQueue:
    """A queue, its dead-letter queue and, where one is named, the topic before it."""

    def __init__(self, clients: AsyncExitStack, sqs: Any, sns: Any, names: Names, visibility: int) -> None:
        self._clients = clients
        self._sqs = sqs
        self._sns = sns
        self._resources = Resources(sqs, sns, names)
        self._visibility = visibility
        self._group: GroupCommit[str, bool] = GroupCommit(
            self._send,
            group_weight=BATCH_BYTES,
            waiting_weight=BATCH_BYTES * 100,
            weigh=lambda body: max(len(body.encode()), BATCH_BYTES // BATCH),  # bounds the count as well as the bytes
        )

    async def publish(self, client: str, events: Sequence[Event]) -> None:
        """Send the events together with whatever else waits."""
        bodies = [_text(body) for body in messages.split(client, events)]
        async with bounded(*_FAILURES):
            accepted = await asyncio.gather(*(self._group.submit(body) for body in bodies))
        if not all(accepted):
            raise Unavailable("The event queue did not take every event.", retry_after=1)

    async def receive(self, limit: int, seconds: float) -> list[Delivery]:
        """Ten at a time is what one call gives: when it gives ten, several calls fetch the rest."""
        async with bounded(*_FAILURES, longer=seconds):
            url = (await self._resources.places()).queue
            wait = min(seconds, LONGEST_WAIT)
            received = await self._take(url, min(limit, BATCH), int(wait))
            if not received and wait % 1:  # a call waits whole seconds
                await asyncio.sleep(wait % 1)
                received = await self._take(url, min(limit, BATCH))
            if len(received) == BATCH:
                rest = [min(limit - start, BATCH) for start in range(BATCH, limit, BATCH)]
                for taken in await asyncio.gather(*(self._take(url, most) for most in rest)):
                    received += taken
        return [
            Delivery(
                message["ReceiptHandle"],
                message["Body"].encode(),
                int(message["Attributes"]["ApproximateReceiveCount"]),
            )
            for message in received
        ]

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Delete them."""
        async with bounded(*_FAILURES):
            url = (await self._resources.places()).queue
            await asyncio.gather(
                *(
                    self._sqs.delete_message_batch(QueueUrl=url, Entries=entries)
                    for entries in _entries([delivery.receipt for delivery in deliveries])
                )
            )

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Make them visible."""
        async with bounded(*_FAILURES):
            await self._show((await self._resources.places()).queue, [delivery.receipt for delivery in deliveries])

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Send it to the dead-letter queue with the reason, then delete it."""
        facts = {"reason": _text(reason.encode())[:REASON_LENGTH] or "unknown", "buried_at": moment()}
        async with bounded(*_FAILURES):
            await self._sqs.send_message(
                QueueUrl=(await self._resources.places()).dead,
                MessageBody=delivery.body.decode(),
                MessageAttributes={name: {"DataType": "String", "StringValue": fact} for name, fact in facts.items()},
            )
        await self.acknowledge([delivery])

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Receive up to `limit` of them and make them visible again: while one process looks, another does not see them."""
        found = [message async for message in self._dead_messages(limit)]
        async with bounded(*_FAILURES):
            await self._show((await self._resources.places()).dead, [message["ReceiptHandle"] for message in found])
        return sorted(map(_letter, found), key=lambda letter: letter.buried_at)

    async def replay(self, ids: Sequence[str] | None = None) -> int:
        """Send each to the queue, and then delete it from the dead-letter queue."""
        return await self._take_dead(ids, again=True)

    async def drop(self, ids: Sequence[str] | None = None) -> int:
        """Delete them from the dead-letter queue."""
        return await self._take_dead(ids, again=False)

    async def ping(self) -> str:
        """About how many messages wait, and how many dead letters there are."""
        async with bounded(*_FAILURES):
            places = await self._resources.places()
            waiting, dead = await asyncio.gather(self._count(places.queue), self._count(places.dead))
        return f"ok, {waiting} waiting, {dead} dead"

    async def close(self) -> None:
        """Close the connections; what was handed out becomes visible in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                await self._group.drain()
        await self._clients.aclose()

    async def _send(self, bodies: Sequence[str]) -> list[bool]:
        """One call for up to ten messages; whether each was taken."""
        async with bounded(*_FAILURES):
            places = await self._resources.places()
            if places.topic:
                entries = [{"Id": str(number), "Message": body} for number, body in enumerate(bodies)]
                answer = await self._sns.publish_batch(TopicArn=places.topic, PublishBatchRequestEntries=entries)
            else:
                entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
                answer = await self._sqs.send_message_batch(QueueUrl=places.queue, Entries=entries)
        taken = {entry["Id"] for entry in answer.get("Successful", ())}
        return [str(number) in taken for number in range(len(bodies))]

    async def _take(self, url: str, most: int, wait: int = 0, *, seconds: int | None = None) -> list[dict[str, Any]]:
        answer = await self._sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=["All"],
            VisibilityTimeout=self._visibility if seconds is None else seconds,
        )
        return list(answer.get("Messages", ()))

    async def _show(self, url: str, handles: Sequence[str]) -> None:
        await asyncio.gather(
            *(
                self._sqs.change_message_visibility_batch(
                    QueueUrl=url, Entries=[entry | {"VisibilityTimeout": 0} for entry in entries]
                )
                for entries in _entries(handles)
            )
        )

    async def _dead_messages(self, limit: int | None) -> AsyncIterator[dict[str, Any]]:
        """Dead letters one by one, until none is visible: a call that waits asks every server of the queue."""
        seen: set[str] = set()
        while limit is None or len(seen) < limit:
            async with bounded(*_FAILURES):
                most = BATCH if limit is None else min(BATCH, limit - len(seen))
                page = await self._take((await self._resources.places()).dead, most, 1, seconds=LOOKING)
            fresh = [message for message in page if message["MessageId"] not in seen]
            if not fresh:
                return
            for message in fresh:
                seen.add(message["MessageId"])
                yield message

    async def _take_dead(self, ids: Sequence[str] | None, *, again: bool) -> int:
        count, kept = 0, []
        async for message in self._dead_messages(None):
            if ids is not None and message["MessageId"] not in ids:
                kept.append(message["ReceiptHandle"])
                continue
            async with bounded(*_FAILURES):
                places = await self._resources.places()
                if again:
                    await self._sqs.send_message(QueueUrl=places.queue, MessageBody=message["Body"])
                await self._sqs.delete_message(QueueUrl=places.dead, ReceiptHandle=message["ReceiptHandle"])
            count += 1
        async with bounded(*_FAILURES):
            await self._show((await self._resources.places()).dead, kept)
        return count

    async def _count(self, url: str) -> int:
        answer = await self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def _text(body: bytes) -> str:
    """A body as SQS takes it: the two characters that it refuses are escaped, which JSON reads as the same."""
    return body.decode().replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def _entries(handles: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Receipt handles in batches of what one call takes."""
    return [
        [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles[start : start + BATCH])]
        for start in range(0, len(handles), BATCH)
    ]


def _letter(message: dict[str, Any]) -> DeadLetter:
    """With our attributes, or as the redrive policy moved it: without a reason, and with the time when it was published."""
    facts = {name: fact["StringValue"] for name, fact in message.get("MessageAttributes", {}).items()}
    sent = datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1_000, UTC)
    buried_at = facts.get("buried_at", sent.isoformat(timespec="milliseconds"))
    return DeadLetter(message["MessageId"], facts.get("reason", EXHAUSTED), buried_at, message["Body"].encode())


async def open_queue(url: str) -> SqsQueue:
    """The queue at a URL; nothing is connected yet."""
    address = Address.parse(url, ("topic", "dead", "visibility", "endpoint", "create"))
    queue = checked_name(address.parts.path.strip("/") or QUEUE, "the queue")
    create = bool(address.number("create", 0))
    topic = address.parameters.get("topic")
    if topic is not None and not topic.startswith("arn:"):
        if not create:
            refuse("topic is not an ARN; a plain name needs create=1")
        checked_name(topic, "topic")
    endpoint = address.parameters.get("endpoint")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        refuse("endpoint is not an http or https URL")
    names = Names(queue, address.name("dead", f"{queue}-dead"), topic, create=create)
    visibility = address.number("visibility", 30, least=1)
    config = AioConfig(
        connect_timeout=2,
        read_timeout=LONGEST_WAIT + SECONDS,
        retries={"total_max_attempts": 1},
        max_pool_connections=50,
    )
    settings = {"region_name": address.parts.netloc, "endpoint_url": endpoint, "config": config}
    async with AsyncExitStack() as clients:
        try:
            sqs, sns = [
                await clients.enter_async_context(get_session().create_client(service, **settings))
                for service in ("sqs", "sns")
            ]
        except (BotoCoreError, ValueError):
            refuse("the region, the endpoint or the AWS configuration cannot be used")
        return SqsQueue(clients.pop_all(), sqs, sns, names, visibility)
