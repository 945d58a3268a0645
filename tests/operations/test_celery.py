"""The scheduled work under Celery: real workers and beats on real brokers do every job, and two at once do no harm."""

import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.backends import process, rabbitmq, redis, wait_until
from tests.backends.postgresql import PostgreSQL
from tests.callers import somebody
from tests.punctual import in_time, punctual

from upshot import cache, celeryapp, control, eventstore
from upshot.celeryapp import TRIES, create_app
from upshot.clock import SystemClock
from upshot.errors import ConfigurationError, Unavailable
from upshot.experiments import Draft
from upshot.operations import Stores, assignments, experiments, results
from upshot.operations.results import Asked
from upshot.operations.schedule import JOBS
from upshot.settings import Settings
from upshot.variants import VariantDraft

ROOT = Path(__file__).parents[2]
BROKERS: dict[str, Any] = {"redis": redis.running, "rabbitmq": rabbitmq.running}
USERS = 50
ROUNDS = 3
STOPPED_SECONDS = 15
DONE = re.compile(r"Task upshot\.(\w+)\[[-0-9a-f]+\] succeeded in [\d.]+s: '(.*)'")
ELSEWHERE = {"database_url": "postgresql://u@127.0.0.1:1/x", "events_url": "postgresql://u@127.0.0.1:1/x"}


def settings(**chosen: str) -> Settings:
    """Settings as the environment would give them."""
    return Settings().model_copy(update=chosen)


def celery(application: str, *options: str) -> tuple[str, ...]:
    """The command of a worker with a beat."""
    return (sys.executable, "-m", "celery", "-A", application, "worker", "-B", "--loglevel", "info", *options)


async def opened(database: str) -> Stores:
    """The stores of a process that relays nothing."""
    return Stores(
        await control.connect(database), await eventstore.connect(database), cache.connect("memory://"), SystemClock()
    )


async def assigned(database: str) -> str:
    """An experiment whose exposures wait in the outbox, as if the server had died."""
    stores = await opened(database)
    made = await experiments.create(
        stores, somebody("first"), Draft("Scheduled", (VariantDraft("a"), VariantDraft("b")))
    )
    for number in range(USERS):
        await assignments.assign(stores, "first", made.id, f"user-{number}", {})
    await stores.control.close()
    await stores.events.close()
    return made.id


def done(log: Path) -> Counter[str]:
    """How often a worker did each job."""
    return Counter(name for name, _ in DONE.findall(log.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("broker", BROKERS)
@punctual
async def test_two_workers_do_every_job_again_and_again(
    broker: str, tmp_path: Path, postgresql_server: PostgreSQL
) -> None:
    """They say what they did, disturb nobody, and leave in order; exposures that waited count once."""
    name = f"celery_{uuid.uuid4().hex[:8]}"
    database, folder = postgresql_server.database(name), tmp_path / name
    experiment = await assigned(database)
    logs = [folder / f"worker-{number}.log" for number in range(2)]
    (folder / "broker").mkdir(parents=True)
    with ExitStack() as exits:
        running = exits.enter_context(BROKERS[broker](folder / "broker"))
        environment = {
            "UPSHOT_CELERY_BROKER_URL": running.url,
            "DATABASE_URL": database,
            "UPSHOT_EVENTS_URL": database,
            "UPSHOT_EXPORT_DIR": str(folder / "exports"),
            "UPSHOT_RETENTION_DAYS": "30",
            "PYTHONPATH": str(ROOT),
        }
        workers = [
            exits.enter_context(
                process(
                    *celery("tests.operations.hurried_celery", "-c", "2", "-s", str(folder / f"beat-{number}")),
                    *("-n", f"worker{number}@test"),
                    log=log,
                    environment=environment,
                )
            )
            for number, log in enumerate(logs)
        ]
        wait_until(lambda: all(sum(map(done, logs), Counter())[job] >= ROUNDS for job in JOBS), 300, "every job")
        begun = time.monotonic()
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        codes = [worker.wait(120) for worker in workers]
        seconds = time.monotonic() - begun
    words = dict(said for log in logs for said in DONE.findall(log.read_text()))
    stores = await opened(database)
    waiting = await stores.control.outbox(1)
    report = await results.report(stores, "first", experiment, Asked())
    await stores.close()

    assert codes == [0, 0]
    assert words.keys() == JOBS.keys()
    assert words["relay"].endswith("exposures relayed")
    assert words["exports"] == "1 files written"
    assert not [line for log in logs for line in log.read_text().splitlines() if "ERROR" in line or "raised" in line]
    assert [path.suffix for path in (folder / "exports").rglob("*.*")] == [".csv"]
    assert (report.summary.total_users, report.health.crossovers, waiting) == (USERS, 0, [])
    in_time(seconds, STOPPED_SECONDS)


@pytest.mark.slow
def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    """One process at a time is what an embedded store allows."""
    found = subprocess.run(
        celery("upshot.celeryapp"),
        cwd=tmp_path,
        env={"PATH": "", "UPSHOT_CELERY_BROKER_URL": "redis://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert found.returncode
    assert "set DATABASE_URL and UPSHOT_EVENTS_URL" in found.stderr


def test_settings_that_celery_cannot_work_with_are_refused() -> None:
    """No broker, or an embedded store; the password of the broker is not repeated."""
    with pytest.raises(ConfigurationError, match="UPSHOT_CELERY_BROKER_URL"):
        create_app(settings(**ELSEWHERE))
    with pytest.raises(ConfigurationError, match="DATABASE_URL and UPSHOT_EVENTS_URL") as caught:
        create_app(settings(celery_broker_url="redis://:secret@127.0.0.1:1"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("broker", ["amqp", "redis"])
def test_every_job_is_a_task_with_its_period(broker: str) -> None:
    """JSON only; acknowledged late, and handed out again only after its time limit."""
    app = create_app(settings(**ELSEWHERE, celery_broker_url=f"{broker}://127.0.0.1:1"))

    scheduled = {entry["task"]: entry["schedule"] for entry in app.conf.beat_schedule.values()}

    assert scheduled == {f"upshot.{name}": job.every for name, job in JOBS.items()}
    assert scheduled.keys() <= app.tasks.keys()
    assert (app.conf.accept_content, app.conf.task_acks_late) == (["json"], True)
    limit = app.conf.broker_transport_options.get("visibility_timeout")
    assert limit is None if broker == "amqp" else limit > app.conf.task_time_limit


def test_a_job_is_tried_again_while_a_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """And given up in the end: the next period comes."""
    tries: list[bool] = []

    async def away(_settings: Settings, *, spooling: bool) -> Stores:
        tries.append(spooling)
        raise Unavailable("The database cannot be reached.", retry_after=1)

    monkeypatch.setattr(celeryapp, "open_stores", away)
    app = create_app(settings(**ELSEWHERE, celery_broker_url="redis://127.0.0.1:1"))

    found = app.tasks["upshot.relay"].apply()

    assert isinstance(found.result, Unavailable)
    assert tries == [False] * (1 + TRIES)
