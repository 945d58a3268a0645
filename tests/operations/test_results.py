"""Results from the operations down to the stores: attribution, phases, windows, time series, segments, words and numbers."""

import itertools
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.callers import somebody

from upshot.clock import FixedClock
from upshot.errors import Invalid
from upshot.experiments import Draft, Experiment
from upshot.operations import Stores, elsewhere, events, experiments, results
from upshot.operations.elsewhere import Elsewhere
from upshot.operations.results import Asked
from upshot.report import Comparison, Report
from upshot.variants import VariantDraft

START = datetime(2026, 3, 1, tzinfo=UTC)
_numbers = itertools.count()


async def under_way(stores: Stores, clock: FixedClock, users: dict[str, int], **draft: Any) -> Experiment:
    """An experiment that began on 1 March with so many users per variant, named variant-number; now is 11 March."""
    clock.moment = START
    arms = [VariantDraft(name, weight=Decimal(count)) for name, count in users.items()]
    experiment = await experiments.create(stores, somebody("one"), Draft("Test", arms, primary_metric="buy", **draft))
    clock.moment = START + timedelta(days=10)
    rows = [
        Elsewhere(f"{name}-{n}", name, START + timedelta(seconds=n), {"country": "US" if n % 2 else "DE"})
        for name, count in users.items()
        for n in range(count)
    ]
    await elsewhere.import_assignments(stores, somebody("one"), experiment.id, list(enumerate(rows)))
    return experiment


async def happened(stores: Stores, user: str, when: datetime, kind: str = "buy", **fields: Any) -> None:
    """An event of a user."""
    await events.ingest(stores, "one", [caused(user, when, kind, **fields)])


def caused(user: str, when: datetime, kind: str = "buy", **fields: Any) -> Any:
    """An event of a user, to be sent with others."""
    empty = dict.fromkeys(("type", "properties", "experiment_id", "session_id", "sequence"))
    raw: Any = {
        **empty,
        "user_id": user,
        "event_type": kind,
        "timestamp": when.isoformat(),
        "event_id": f"e{next(_numbers)}",
    }
    return SimpleNamespace(**(raw | fields))


async def converted(stores: Stores, users: dict[str, int], when: timedelta = timedelta(days=1), **fields: Any) -> None:
    """The first users of each variant buy, all at one moment."""
    sent = [
        caused(f"{name}-{number}", START + when, **fields) for name, count in users.items() for number in range(count)
    ]
    await events.ingest(stores, "one", sent)


async def answer(stores: Stores, experiment: Experiment, **asked: Any) -> Report:
    """The result."""
    return await results.report(stores, "one", experiment.id, Asked(**asked))


def compared(report: Report, metric: str, variant: str = "b") -> Comparison:
    """One comparison of a report."""
    return next(c for c in report.comparisons if (c.metric, c.variant) == (metric, variant))


def has_no_number_that_is_none(value: Any) -> bool:
    """Whether everything in a JSON document is finite."""
    if isinstance(value, dict):
        return all(map(has_no_number_that_is_none, value.values()))
    if isinstance(value, list):
        return all(map(has_no_number_that_is_none, value))
    return not isinstance(value, float) or math.isfinite(value)


async def test_only_events_at_or_after_exposure_and_inside_the_window_count(stores: Stores, clock: FixedClock) -> None:
    """Equal times count, a microsecond before does not; the window is half-open."""
    experiment = await under_way(stores, clock, {"a": 1, "b": 5})
    instant = timedelta(microseconds=1)
    for number, when in enumerate([START, START + timedelta(seconds=1) - instant, START + timedelta(days=2) - instant,
                                   START + timedelta(days=2), START + timedelta(days=5)]):  # fmt: skip
        await happened(stores, f"b-{number}", when)

    whole = await answer(stores, experiment)
    early = await answer(stores, experiment, end=START + timedelta(days=2))
    late = await answer(stores, experiment, start=START + timedelta(days=2))

    counts = [r.variants[1].metrics["buy"].users_with_events for r in (whole, early, late)]
    assert counts == [4, 2, 2]
    assert [r.summary.total_users for r in (whole, early, late)] == [6, 6, 6]


async def test_one_event_counts_in_every_experiment_of_its_user(stores: Stores, clock: FixedClock) -> None:
    """Events belong to users, not to experiments; a metric can be asked for after the fact."""
    first = await under_way(stores, clock, {"a": 2, "b": 2})
    second = await under_way(stores, clock, {"a": 2, "b": 2})
    await happened(stores, "a-0", START + timedelta(days=1), kind="never announced")

    for experiment in (first, second):
        found = await answer(stores, experiment, metrics=("never announced",))
        assert found.variants[0].metrics["never announced"].users_with_events == 1


async def test_revenue_works_out_of_the_box(stores: Stores, clock: FixedClock) -> None:
    """The values of the primary metric's events, per assigned user; other events' values are no revenue."""
    experiment = await under_way(stores, clock, {"a": 4, "b": 4})
    await happened(stores, "b-0", START + timedelta(days=1), properties={"price": 10.0})
    await happened(stores, "b-0", START + timedelta(days=2), properties={"amount": 2.5})
    await happened(stores, "b-1", START + timedelta(days=1), kind="wish", properties={"price": 99})

    value = (await answer(stores, experiment)).variants[1].metrics["revenue"]

    assert (value.sum, value.value, value.sample_size, value.events) == (12.5, 3.125, 4, 2)


async def test_a_clear_winner_is_recommended_and_a_clear_loser_stopped(stores: Stores, clock: FixedClock) -> None:
    """While it runs, on evidence that holds at every look; the numbers stand beside the words."""
    good = await under_way(stores, clock, {"a": 400, "b": 400})
    await converted(stores, {"a": 40, "b": 120})

    found = await answer(stores, good)

    lead = compared(found, "buy")
    assert (found.summary.recommendation, found.summary.leader, found.summary.confidence) == (
        "ship",
        "b",
        "significant",
    )
    assert (lead.stopping, lead.significant, lead.method) == ("always_valid", True, "two_proportion_z")
    assert lead.relative_lift == pytest.approx(2.0)
    assert lead.p_value is not None
    assert lead.always_valid_p_value is not None
    assert lead.p_value < lead.always_valid_p_value < 0.05
    swapped = await answer(stores, good, variant="a")
    assert [v.name for v in swapped.variants] == ["a"]


async def test_a_fixed_horizon_p_value_makes_no_word_before_the_end(stores: Stores, clock: FixedClock) -> None:
    """p < .05 in a running experiment says nothing yet; at the end that was planned it does, and otherwise never."""
    experiment = await under_way(stores, clock, {"a": 500, "b": 500}, plan={"stopping": "fixed"})
    await converted(stores, {"a": 50, "b": 71})

    running = await answer(stores, experiment)
    await experiments.move(stores, somebody("one"), experiment.id, "complete")
    ended = await answer(stores, experiment)

    assert compared(running, "buy").p_value == pytest.approx(0.0425, abs=0.001)
    assert (compared(running, "buy").significant, compared(running, "buy").reason) == (None, "not_final")
    assert running.summary.recommendation == "keep_running"
    assert (compared(ended, "buy").significant, ended.summary.recommendation) == (True, "ship")
    assert running.summary.users_needed is not None


async def test_a_sample_ratio_mismatch_locks_the_words(stores: Stores, clock: FixedClock) -> None:
    """600 against 400 users of an equal split cannot be trusted, however good the numbers look."""
    experiment = await under_way(stores, clock, {"a": 400, "b": 400})
    extra = [(n, Elsewhere(f"x{n}", "b", START, {})) for n in range(200)]
    await elsewhere.import_assignments(stores, somebody("one"), experiment.id, extra)
    await converted(stores, {"a": 40, "b": 200})

    found = await answer(stores, experiment)

    assert found.health.sample_ratio.ok is False
    assert found.summary.recommendation == "do_not_trust"
    assert {(c.significant, c.confidence, c.reason) for c in found.comparisons} == {(None, None, "srm_failed")}


async def test_phases_are_compared_within_themselves(stores: Stores, clock: FixedClock) -> None:
    """Simpson's trap: a change of the allocation together with a change of the base rate makes no effect."""
    clock.moment = START
    arms = [VariantDraft("a", weight=Decimal(9)), VariantDraft("b", weight=Decimal(1))]
    experiment = await experiments.create(stores, somebody("one"), Draft("Test", arms, primary_metric="buy"))
    clock.moment = START + timedelta(days=3)
    flipped = [VariantDraft("a", weight=Decimal(1)), VariantDraft("b", weight=Decimal(9))]
    await experiments.change(stores, somebody("one"), experiment.id, {"variants": flipped}, None)
    clock.moment = START + timedelta(days=10)
    cells = [("a", 0, 900, 450), ("b", 0, 100, 50), ("a", 4, 100, 10), ("b", 4, 900, 90)]
    rows, buyers = [], []
    for arm, day, users, buying in cells:
        rows += [Elsewhere(f"{arm}-{day}-{n}", arm, START + timedelta(days=day), {}) for n in range(users)]
        buyers += [f"{arm}-{day}-{number}" for number in range(buying)]
    await elsewhere.import_assignments(stores, somebody("one"), experiment.id, list(enumerate(rows)))
    for buyer in buyers:
        await happened(stores, buyer, START + timedelta(days=5))

    found = await answer(stores, experiment)

    buy = compared(found, "buy")
    assert (buy.method, found.experiment.phase) == ("stratified_z", 2)
    assert buy.absolute_difference == pytest.approx(0, abs=1e-12)
    assert found.health.sample_ratio.ok is True
    assert found.health.sample_ratio.expected == {"a": 1000, "b": 1000}
    assert "several_phases" in {warning.code for warning in found.health.warnings}
    pooled = found.variants
    assert pooled[0].metrics["buy"].value == 0.46  # what naive pooling would have compared: 46 % against 14 %
    assert pooled[1].metrics["buy"].value == 0.14


async def test_days_are_those_of_the_time_zone(stores: Stores, clock: FixedClock) -> None:
    """A day of 23 hours is one day, nothing is lost or counted twice, and the sum of the days is the total."""
    experiment = await under_way(stores, clock, {"a": 2, "b": 2})
    for hour in range(0, 10 * 24, 3):
        await happened(stores, "b-0", START + timedelta(hours=hour))

    found = await answer(stores, experiment, granularity="day", zone="America/New_York")

    points = [p for p in found.time_series if (p.metric, p.variant) == ("buy", "b")]
    lengths = [(b.period - a.period) / timedelta(hours=1) for a, b in itertools.pairwise(points)]
    assert set(lengths) == {23.0, 24.0}
    assert sum(p.events for p in points) == found.variants[1].metrics["buy"].events == 80
    assert [p.users for p in points] == [2] * len(points)
    assert points[0].new_users == 2


async def test_segments_split_the_users_and_correct_for_their_number(stores: Stores, clock: FixedClock) -> None:
    """Cells sum to the whole; p-values are corrected over all of them."""
    experiment = await under_way(stores, clock, {"a": 100, "b": 100})
    await converted(stores, {"a": 10, "b": 30})

    found = await answer(stores, experiment, segments=("country",))

    assert {s.value: s.users for s in found.segments} == {"DE": 100, "US": 100}
    cells = [c for s in found.segments for c in s.comparisons if c.metric == "buy"]
    assert len(cells) == 2
    assert all(c.adjusted_p_value >= c.p_value for c in cells if c.p_value and c.adjusted_p_value)
    assert max(c.adjusted_p_value or 0 for c in cells) > max(c.p_value or 0 for c in cells) * 0.99


async def test_guardrails_stop_harm(stores: Stores, clock: FixedClock) -> None:
    """A better primary metric does not ship where a guardrail got worse."""
    experiment = await under_way(stores, clock, {"a": 400, "b": 400}, guardrails=["renew"])
    await converted(stores, {"a": 40, "b": 120})
    await converted(stores, {"a": 200, "b": 80}, kind="renew")

    found = await answer(stores, experiment)

    assert found.summary.recommendation == "stop_harm"
    assert "renew" in found.summary.reason


@pytest.mark.parametrize(
    ("users", "buying"), [({"a": 1, "b": 1}, {}), ({"a": 5, "b": 1}, {"b": 1}), ({"a": 3, "b": 3}, {"a": 3, "b": 3})]
)
async def test_a_number_that_does_not_exist_is_null_with_a_reason(
    stores: Stores, clock: FixedClock, users: dict[str, int], buying: dict[str, int]
) -> None:
    """No users, one user, no variance, all converted: never NaN, and a reason wherever a p-value is missing."""
    experiment = await under_way(stores, clock, users)
    empty = await experiments.create(stores, somebody("one"), Draft("Empty", [VariantDraft("a"), VariantDraft("b")]))
    await converted(stores, buying)

    for subject in (experiment, empty):
        found = await answer(stores, subject, granularity="day", all_segments=True, sufficient=True)

        assert has_no_number_that_is_none(msgspec.to_builtins(found))
        assert all(c.reason for c in found.comparisons if c.p_value is None)


async def test_what_repeats_conflicts_or_comes_late_is_shown(stores: Stores, clock: FixedClock) -> None:
    """Health counts duplicates, conflicts and late events; late ones count in the result."""
    experiment = await under_way(stores, clock, {"a": 2, "b": 2})
    await happened(stores, "a-0", START + timedelta(days=1), event_id="same")
    await happened(stores, "a-0", START + timedelta(days=1), event_id="same")
    await happened(stores, "a-1", START + timedelta(days=1), event_id="same")

    found = await answer(stores, experiment)

    assert (found.health.duplicates, found.health.conflicts, found.health.late_events) == (2, 1, 1)
    assert found.variants[0].metrics["buy"].users_with_events == 1
    assert {"event_conflicts", "late_events"} <= {warning.code for warning in found.health.warnings}


@pytest.mark.parametrize(
    "asked",
    [
        {"start": START, "end": START},
        {"start": START, "end": START + timedelta(days=401)},
        {"start": START - timedelta(days=40), "granularity": "hour"},
        {"variant": "unknown"},
        {"metrics": ("",)},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    stores: Stores, clock: FixedClock, asked: dict[str, Any]
) -> None:
    """An empty or too wide window, too many periods, an unknown variant, an empty metric."""
    experiment = await under_way(stores, clock, {"a": 1, "b": 1})

    with pytest.raises(Invalid):
        await answer(stores, experiment, **asked)
