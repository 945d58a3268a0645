"""The scheduled work as Celery tasks, for those who run Celery: `celery -A upshot.celeryapp worker -B`.

With UPSHOT_SCHEDULER=celery our own processes leave this work alone; `upshot worker` goes on emptying the queue. A task takes no
arguments, begins from what the stores say, and may run twice at once: a late acknowledgement repeats work and doubles nothing.
"""

import asyncio
from typing import Any

from celery import Celery

from upshot import settings
from upshot.backends import open_stores
from upshot.errors import ConfigurationError, TimedOut, Unavailable
from upshot.operations.schedule import HOUR, JOBS, Job
from upshot.settings import Settings
from upshot.worker import policy_of

QUEUE = "upshot-scheduled"
TRIES = 5
LONGEST_PAUSE = 60
SHUTDOWN_SECONDS = 10.0


def create_app(chosen: Settings) -> Celery:
    """The Celery application: one task per job, each sent once per period.

    Raises:
        ConfigurationError: there is no broker, or a store is a file that only one process may open.
    """
    if chosen.celery_broker_url is None:
        raise ConfigurationError("UPSHOT_CELERY_BROKER_URL: not set; Celery needs a broker, amqp:// or redis://")
    if chosen.embedded:
        raise ConfigurationError(
            "Celery has many processes, an embedded store has one: set DATABASE_URL and UPSHOT_EVENTS_URL"
        )
    application = Celery("upshot", broker=chosen.celery_broker_url, set_as_current=False)
    application.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,  # what a job did stands in the worker's log
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_soft_time_limit=HOUR - 60,
        task_time_limit=HOUR,
        worker_prefetch_multiplier=1,
        worker_soft_shutdown_timeout=SHUTDOWN_SECONDS,
        broker_connection_retry_on_startup=True,
        beat_schedule={
            # What waited for a worker for a whole period is not wanted any more: the next one is there.
            name: {"task": _task_name(name), "schedule": job.every, "options": {"expires": job.every}}
            for name, job in JOBS.items()
        },
    )
    if chosen.celery_broker_url.startswith("redis"):
        # Redis hands a message out again after this; before the time limit it would be one that is worked on.
        application.conf.broker_transport_options = {"visibility_timeout": 2 * HOUR}
    for name, job in JOBS.items():
        _register(application, name, job, chosen)
    return application


def _register(application: Celery, name: str, job: Job, chosen: Settings) -> None:
    def run() -> str:
        return asyncio.run(_once(job, chosen))

    options: dict[str, Any] = {
        "autoretry_for": (Unavailable, TimedOut),
        "max_retries": TRIES,
        "retry_backoff": True,
        "retry_backoff_max": LONGEST_PAUSE,
        "retry_jitter": True,
        "shared": False,  # with no other application of the process
    }
    application.task(run, name=_task_name(name), **options)


async def _once(job: Job, chosen: Settings) -> str:
    stores = await open_stores(chosen, spooling=False)
    try:
        return await job.work(stores, policy_of(chosen))
    finally:
        await stores.close()


def _task_name(job: str) -> str:
    return f"upshot.{job}"


def __getattr__(name: str) -> Celery:
    """`app`, which Celery looks for, made of this process's settings when it is asked for."""
    if name != "app":
        raise AttributeError(name)
    globals()[name] = create_app(settings.load())
    found: Celery = globals()[name]
    return found
