"""Two hundred experiments without an effect, through the real application over HTTP: hash, exposures, events, results.

All have the same thousand users and the same events, of which one counts in every experiment that its user is in; only the
hash, with a salt per experiment, tells them apart. So this tests what simulated moments cannot: that the arms of an experiment
are alike, that experiments are independent of each other, and that what counts is what happened after a user's exposure.
"""

import asyncio
import itertools
import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.servers import TOKEN, UNLIMITED

from upshot.assignment import choose, hash64
from upshot.calibration import at_most, exactly
from upshot.clock import SystemClock
from upshot.http.app import create_app
from upshot.settings import Settings
from upshot.statistics import ALERT, always_valid_p_value
from upshot.statistics.tails import normal_critical_value

pytestmark = pytest.mark.slow

EXPERIMENTS, USERS, DAYS = 200, 1_000, 14
BEFOREHAND = 20  # users of each experiment whose variant the API gives ahead of time
TOGETHER = 4  # results that are asked for at once
METRICS = ("purchase", "revenue")
ALPHA = 0.05
DAY = timedelta(days=1)
END = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)  # what is imported has happened
START = END - DAYS * DAY
COMING = [START + DAYS * DAY * (place / USERS) for place in range(USERS)]
CAME = [sum(moment < START + day * DAY for moment in COMING) for day in range(1, DAYS + 1)]
NAMES = [f"user-{place}" for place in range(USERS)]
ARMS = ("control", "treatment")

Document = dict[str, Any]


@dataclass
class Replay:
    """What was answered: who got the treatment, (experiment, user); each experiment's result at its end, with the course of it;
    and of some experiments the results as they were asked for at the end of each day."""

    treated: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((EXPERIMENTS, USERS), dtype=bool))
    ended: list[Document] = field(default_factory=list)
    daily: dict[int, list[Document]] = field(default_factory=dict)

    def smallest(self, metric: str) -> list[float]:
        """The smallest always-valid p-value of each experiment's days."""
        return [min(points(result, metric).values()) for result in self.ended]


def points(result: Document, metric: str) -> dict[str, float]:
    """The always-valid p-value at the end of each day; 1 where it has no say yet."""
    return {
        point["period"]: 1.0 if point["p_value"] is None else point["p_value"]
        for point in result["cumulative"]
        if point["metric"] == metric
    }


def compared(result: Document, metric: str) -> Document:
    """The comparison in a metric."""
    found: Document = next(comparison for comparison in result["comparisons"] if comparison["metric"] == metric)
    return found


def events() -> Iterator[Document]:
    """Purchases of some users after they came; who purchased in the weeks before, which must not count, does so more often."""
    rng = np.random.default_rng(200)
    for name, came in zip(NAMES, COMING, strict=True):
        eager = rng.random() < 0.4
        for earlier in (True, False):
            hours = float(rng.uniform(-200, -1) if earlier else rng.uniform(0, 20))
            price = round(float(rng.lognormal(3, 0.8)), 2)
            if rng.random() < (0.6 if eager else 0.05):
                moment = min(came + timedelta(hours=hours), END - timedelta(minutes=1))
                yield {
                    "user_id": name, "event_type": "purchase", "timestamp": moment.isoformat(),
                    "event_id": f"{name}-{earlier}", "properties": {"price": price},
                }  # fmt: skip


async def asked(folder: Path) -> Replay:
    """The replay, on one application with embedded stores in a folder of its own."""
    # With Celery named nobody rolls up the past beside the requests: two weeks of 200 experiments would take a processor.
    app = create_app(Settings(data_dir=folder, scheduler="celery", **UNLIMITED), {TOKEN: "first"})
    headers = {"Authorization": f"Bearer {TOKEN}"}
    found = Replay()
    async with (
        app.lifespan(),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://upshot", headers=headers, timeout=120
        ) as api,
    ):
        salts = [await made(api, number) for number in range(EXPERIMENTS)]
        for number, salt in enumerate(salts):
            found.treated[number] = await divided(api, number, salt)
        await send(api, "aa-0", events())
        for start in range(0, EXPERIMENTS, TOGETHER):
            numbers = range(start, start + TOGETHER)
            found.ended += await asyncio.gather(*(result(api, number, DAYS, cumulative="true") for number in numbers))
        for number in (0, 2):
            found.daily[number] = [await result(api, number, day) for day in range(1, DAYS + 1)]
    return found


async def made(api: httpx.AsyncClient, number: int) -> str:
    """Make an experiment, of which every second adjusts for what was before; its id, which is the salt of its hash."""
    key = f"aa-{number}"
    document = {
        "name": key, "key": key, "primary_metric": "purchase", "variants": [{"name": name} for name in ARMS],
        "plan": {"stopping": "always_valid", "planned_users": USERS, "adjust": bool(number % 2)},
    }  # fmt: skip
    answer = await api.post("/experiments", json=document)
    assert answer.status_code == 201
    salt: str = answer.json()["id"]
    return salt


async def divided(api: httpx.AsyncClient, number: int, salt: str) -> list[bool]:
    """Let each user see the variant of an experiment on the day of coming; whether it is the treatment.

    Some users are given their variant by the API ahead of time; the others by the published hash that it has to agree with.
    """
    key = f"aa-{number}"
    treated = [choose((1, 1), hash64(salt, name)) == 1 for name in NAMES]
    answer = await api.post(f"/experiments/{key}/assignments", json={"users": NAMES[:BEFOREHAND]})
    given = [one["variant"]["name"] for one in answer.json()["assignments"]]
    assert given == [ARMS[is_treated] for is_treated in treated[:BEFOREHAND]]
    await send(
        api,
        key,
        (
            {"user_id": name, "variant": ARMS[is_treated], "assigned_at": came.isoformat()}
            for name, is_treated, came in zip(NAMES, treated, COMING, strict=True)
        ),
    )
    return treated


async def send(api: httpx.AsyncClient, key: str, rows: Iterator[Document]) -> None:
    """Import rows with their own times; none is refused."""
    content = "\n".join(map(json.dumps, rows))
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await api.post(f"/experiments/{key}/import", content=content, headers=headers)
    assert answer.status_code == 200
    assert all(part["rejected_count"] == 0 for part in answer.json().values())


async def result(api: httpx.AsyncClient, number: int, day: int, **more: str) -> Document:
    """The result of an experiment as it was at the end of a day."""
    parameters = {"end_date": (START + day * DAY).isoformat(), "metrics": ",".join(METRICS)} | more
    answer = await api.get(f"/experiments/aa-{number}/results", params=parameters)
    assert answer.status_code == 200
    found: Document = answer.json()
    return found


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """The answers, which all tests read. Ids are numbers here, and salts follow from them: every replay is the same one."""
    numbers = itertools.count(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SystemClock, "new_id", lambda _: str(uuid.UUID(int=next(numbers))))
        return asyncio.run(asked(tmp_path_factory.mktemp("replay")))


def test_all_users_and_no_earlier_purchase_count(replay: Replay) -> None:
    """Every experiment has the same users and the same purchases, in whatever arms they are."""
    late = sum(event["event_id"].endswith("False") for event in events())
    for found in replay.ended:
        assert found["summary"]["total_users"] == USERS
        assert sum(variant["metrics"]["purchase"]["users_with_events"] for variant in found["variants"]) == late


def test_the_hash_divides_evenly_and_independently(replay: Replay) -> None:
    """Hardly a split alarms; all together are halves, and a user's arms in 200 experiments are as coins fall.

    With one salt for two experiments, the same users would meet in the same arms.
    """
    health = [found["health"]["sample_ratio"] for found in replay.ended]
    watched = sum(ratio["ok"] is False for ratio in health)
    alarms = sum(ratio["p_value"] < ALERT for ratio in health)
    assert at_most("hash", "watched", watched, EXPERIMENTS, ALERT).inside
    assert alarms <= 1
    assert exactly("hash", "treated", int(replay.treated.sum()), replay.treated.size, 0.5).inside
    assert [ratio["observed"]["treatment"] for ratio in health] == replay.treated.sum(axis=1).tolist()

    def scatter(treated: NDArray[np.bool_]) -> float:
        """Chi-squared of the users' counts, in standard deviations from what independent experiments give."""
        counts = treated.sum(axis=0)
        chi_squared = float(((counts - EXPERIMENTS / 2) ** 2).sum() / (EXPERIMENTS / 4))
        return (chi_squared - USERS) / math.sqrt(2 * USERS)

    assert abs(scatter(replay.treated)) < 3.3
    assert abs(scatter(np.vstack([replay.treated[:100]] * 2))) > 3.3


@pytest.mark.parametrize("metric", METRICS)
def test_false_alarms_stay_at_the_level(replay: Replay, metric: str) -> None:
    """At the fixed end at most 20 of 200 are significant at 5 %; watched for 14 days no more are so always-valid."""
    comparisons = [compared(found, metric) for found in replay.ended]
    ended = sum(comparison["p_value"] <= ALPHA for comparison in comparisons)
    watched = sum(p_value <= ALPHA for p_value in replay.smallest(metric))

    assert ended <= 20
    assert exactly(metric, "false alarms", ended, EXPERIMENTS, ALPHA).inside
    assert at_most(metric, "false alarms", watched, EXPERIMENTS, ALPHA).inside
    assert sum(comparison["always_valid_p_value"] is not None for comparison in comparisons) > 190


def test_peeking_at_ordinary_p_values_falls_outside(replay: Replay) -> None:
    """Of the same days of the same experiments, the ordinary p-value is 5 % or less on some in far too many."""
    assert at_most("purchase", "peeked", peeked(replay, "purchase"), EXPERIMENTS, ALPHA).inside is False


def peeked(replay: Replay, metric: str) -> int:
    """In how many experiments z passes 1.96 on some day: where the always-valid p-value is that of 1.96 or less."""
    limits = [always_valid_p_value(normal_critical_value(ALPHA), users, ALPHA, USERS) for users in CAME]
    courses = [points(ended, metric).values() for ended in replay.ended]
    return sum(any(p <= limit for p, limit in zip(course, limits, strict=True)) for course in courses)


def test_half_of_the_experiments_were_adjusted(replay: Replay) -> None:
    """Those that adjust do so, as purchases before tell of purchases after; a sum that nothing foretells is left as it is."""
    methods = [compared(found, "purchase")["method"] for found in replay.ended]
    assert set(methods[::2]) == {"two_proportion_z"}
    assert methods[1::2].count("cuped_welch_t") > 90


def test_a_day_asked_for_is_the_day_of_the_course(replay: Replay) -> None:
    """The result as it was at the end of a day has the users and the p-value that the course shows for it."""
    for number, results in replay.daily.items():
        for metric in METRICS:
            course = list(points(replay.ended[number], metric).values())
            single = [compared(found, metric)["always_valid_p_value"] for found in results]
            assert [1.0 if p is None else p for p in single] == pytest.approx(course, rel=1e-9)
        assert [found["summary"]["total_users"] for found in results] == CAME
        assert all(found["health"]["sample_ratio"]["ok"] for found in results)
