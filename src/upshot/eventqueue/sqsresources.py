"""Where the queue, its dead-letter queue and the topic of an `sqs://` URL are; made where that is asked for."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from upshot.eventqueue.adapters import ATTEMPTS

RETENTION = "1209600"  # seconds: 14 days, the longest there is


@dataclass(frozen=True, slots=True)
class Names:
    """What the URL names, and whether it is to be created."""

    queue: str
    dead: str
    topic: str | None
    create: bool


@dataclass(frozen=True, slots=True)
class Places:
    """The URLs of the queues, and the ARN of the topic."""

    queue: str
    dead: str
    topic: str | None


class Resources:
    """The named things, looked up or created once."""

    def __init__(self, sqs: Any, sns: Any, names: Names) -> None:
        self._sqs = sqs
        self._sns = sns
        self._names = names
        self._places: Places | None = None
        self._lock = asyncio.Lock()

    async def places(self) -> Places:
        """Where they are."""
        async with self._lock:
            if self._places is None:
                self._places = await (self._create() if self._names.create else self._find())
            return self._places

    async def _find(self) -> Places:
        queue = (await self._sqs.get_queue_url(QueueName=self._names.queue))["QueueUrl"]
        dead = (await self._sqs.get_queue_url(QueueName=self._names.dead))["QueueUrl"]
        return Places(queue, dead, self._names.topic)

    async def _create(self) -> Places:
        keeping = {"MessageRetentionPeriod": RETENTION}
        dead = (await self._sqs.create_queue(QueueName=self._names.dead, Attributes=keeping))["QueueUrl"]
        redrive = json.dumps({"deadLetterTargetArn": await self._arn(dead), "maxReceiveCount": ATTEMPTS})
        attributes = keeping | {"RedrivePolicy": redrive}
        queue = (await self._sqs.create_queue(QueueName=self._names.queue, Attributes=attributes))["QueueUrl"]
        topic = None if self._names.topic is None else await self._subscribe(self._names.topic, queue)
        return Places(queue, dead, topic)

    async def _subscribe(self, topic: str, queue: str) -> str:
        """Have the topic deliver to the queue, raw; both calls change nothing where it does."""
        arn = topic if topic.startswith("arn:") else (await self._sns.create_topic(Name=topic))["TopicArn"]
        target = await self._arn(queue)
        allowed = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": target,
            "Condition": {"ArnEquals": {"aws:SourceArn": arn}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        await self._sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
        raw = {"RawMessageDelivery": "true"}
        await self._sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=target, Attributes=raw)
        return str(arn)

    async def _arn(self, url: str) -> str:
        answer = await self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])
