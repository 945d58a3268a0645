"""What the experiment doctor says of facts: each finding where it belongs, none where all is well."""

import random
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from upshot import experiments, lifecycle
from upshot.clock import FixedClock
from upshot.diagnosis import (
    Arrival,
    Assigned,
    Diagnosis,
    Facts,
    Joined,
    Received,
    Severity,
    awaited,
    calls,
    diagnose,
    findings,
    names,
)
from upshot.events import CLAMPED, IMPORTED, SECOND, micros
from upshot.experiments import Draft, Experiment, Status
from upshot.metrics import Definitions, Metric, of_experiment
from upshot.report import Health, SampleRatioHealth
from upshot.variants import VariantDraft

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATELY = NOW - timedelta(minutes=5)
MOMENT = micros(NOW)
EVEN = SampleRatioHealth(1.0, True, "ok", {"a": 50.0, "b": 50.0}, {"a": 50, "b": 50}, 1.0)  # noqa: FBT003
TRUSTED = Health(EVEN, 0, 0, 0, 0, [])
NONE: Definitions = {}


def experiment_of(status: Status = Status.RUNNING, **chosen: Any) -> Experiment:
    """An experiment that waits for `purchase`."""
    clock = FixedClock(NOW - timedelta(days=3))
    first = Status.DRAFT if status is Status.DRAFT else Status.RUNNING
    draft = Draft(
        "One", [VariantDraft("a"), VariantDraft("b")], status=first, **{"primary_metric": "purchase"} | chosen
    )
    made = experiments.create(draft, clock.now(), clock.new_id)
    moves = {Status.PAUSED: ["pause"], Status.COMPLETED: ["complete"], Status.ARCHIVED: ["complete", "archive"]}
    for action in moves.get(status, []):
        made = lifecycle.move(made, action, NOW - timedelta(hours=1))
    return made


def came(event_type: str, events: int = 50, last_at: datetime = LATELY) -> Received:
    """An event type that came."""
    return Received(event_type, events, NOW - timedelta(days=2), last_at)


def arrivals(*seconds: float, flags: int = 0) -> list[Arrival]:
    """Events that are so many seconds ahead of their receipt."""
    return [Arrival(MOMENT + round(ahead * SECOND), MOMENT, flags) for ahead in seconds]


WELL = Joined(100, micros(LATELY), 40, 0, 0, 0, 0, arrivals(*[-0.2] * 100))


def facts(**chosen: Any) -> Facts:
    """Those of a sound experiment, but for what is said otherwise."""
    experiment = chosen.get("experiment", experiment_of())
    sound: dict[str, Any] = {
        "experiment": experiment,
        "now": NOW,
        "metrics": of_experiment(experiment, NONE),
        "received": [came("visit", 900), came("purchase")],
        "assigned": Assigned(100, LATELY),
        "joined": WELL,
        "health": TRUSTED,
        "complete_to": NOW,
    }
    return Facts(**sound | chosen)


def codes(found: Diagnosis) -> list[str]:
    """The findings."""
    return [finding.code for finding in found.findings]


def severities(found: Diagnosis) -> dict[str, Severity]:
    """How bad each finding is."""
    return {finding.code: finding.severity for finding in found.findings}


def test_a_sound_experiment_is_well() -> None:
    """One finding says so, with the numbers; the numbers are those of the facts."""
    found = diagnose(facts())

    [finding] = found.findings
    assert (finding.code, finding.severity) == ("all_well", Severity.OK)
    assert "100 users exposed, 40.0% of them" in finding.message
    assert found.counts.join_rate == 0.4
    assert found.last.exposure == LATELY
    assert found.last.event == LATELY
    assert found.skew is not None
    assert (found.skew.p50, found.skew.p99) == (-0.2, -0.2)
    assert found.example == "purchase"


CASES: dict[str, tuple[str, Severity, dict[str, Any]]] = {
    "a draft": ("not_running", Severity.PROBLEM, {"experiment": experiment_of(Status.DRAFT)}),
    "a pause": ("not_running", Severity.WARNING, {"experiment": experiment_of(Status.PAUSED)}),
    "an end": ("not_running", Severity.WARNING, {"experiment": experiment_of(Status.ARCHIVED)}),
    "a queue that waits": ("behind", Severity.WARNING, {"complete_to": NOW - timedelta(seconds=61)}),
    "a queue that nobody empties": ("behind", Severity.PROBLEM, {"complete_to": NOW - timedelta(seconds=601)}),
    "nobody came": ("no_assignments", Severity.PROBLEM, {"assigned": Assigned(), "joined": Joined()}),
    "nobody was shown anything": ("no_exposures", Severity.PROBLEM, {"joined": Joined()}),
    "nothing came": ("no_events", Severity.PROBLEM, {"received": []}),
    "another case": ("name_mismatch", Severity.PROBLEM, {"received": [came("Purchase")]}),
    "two cases": ("name_mismatch", Severity.WARNING, {"received": [came("purchase"), came("Purchase", 7)]}),
    "other events only": ("nothing_awaited_received", Severity.PROBLEM, {"received": [came("visit")]}),
    "a second metric is not fed": (
        "awaited_not_received", Severity.WARNING, {"experiment": experiment_of(metrics=["refund"])}
    ),
    "all too early": ("events_before_exposure", Severity.PROBLEM, {"joined": Joined(50, MOMENT, 0, 60, 40)}),
    "some too early": ("events_before_exposure", Severity.WARNING, {"joined": replace(WELL, events_before=9, users_before=5)}),
    "nobody is known": ("unknown_users", Severity.PROBLEM, {"joined": Joined(50, MOMENT, 0, 0, 0, 90, 45)}),
    "many are unknown": ("unknown_users", Severity.WARNING, {"joined": replace(WELL, unknown_events=9, unknown_users=9)}),
    "nobody does it": ("low_join_rate", Severity.PROBLEM, {"joined": replace(WELL, joined_users=0)}),
    "hardly anybody does it": ("low_join_rate", Severity.WARNING, {"joined": replace(WELL, exposed_users=9_000)}),
    "a clock ahead": ("clock_ahead", Severity.WARNING, {"joined": replace(WELL, arrivals=arrivals(0, 301))}),
    "a clock years ahead": ("clock_ahead", Severity.WARNING, {"joined": replace(WELL, arrivals=arrivals(0, flags=CLAMPED))}),
    "a day late": ("late_events", Severity.WARNING, {"joined": replace(WELL, arrivals=arrivals(0, -86_401))}),
    "a week late": ("late_events", Severity.WARNING, {"health": replace(TRUSTED, late_events=3)}),
    "shares": ("sample_ratio", Severity.PROBLEM, {"health": replace(TRUSTED, sample_ratio=replace(EVEN, ok=False))}),
    "two variants": ("crossovers", Severity.WARNING, {"health": replace(TRUSTED, crossovers=2)}),
    "one id for two events": ("event_conflicts", Severity.WARNING, {"health": replace(TRUSTED, conflicts=1)}),
    "sent twice": ("duplicates", Severity.WARNING, {"health": replace(TRUSTED, duplicates=10)}),
    "no visits": ("no_recent_assignments", Severity.WARNING, {
        "assigned": Assigned(100, NOW - timedelta(days=2)), "joined": replace(WELL, last_exposure=MOMENT - 2 * 86_400 * SECOND),
    }),
    "no events lately": ("no_recent_events", Severity.WARNING, {"received": [came("purchase", last_at=NOW - timedelta(days=2))]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_finding_is_found_alone(case: str) -> None:
    """With its severity, the numbers in its words, and one sentence that says what to do; and nothing else is found."""
    code, severity, chosen = CASES[case]

    found = diagnose(facts(**chosen))

    assert severities(found) == {code: severity}
    [finding] = found.findings
    assert finding.message.endswith(".")
    assert finding.remedy.endswith(".")
    assert ". " not in finding.remedy


@pytest.mark.parametrize("code", sorted({code for code, _, _ in CASES.values()}))
def test_a_doctor_without_a_rule_is_noticed(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases above would see a rule that is left out."""
    whole = findings.RULES
    found = {
        case: [missing for missing in whole if not _without(missing, whole, monkeypatch, facts(**chosen), wanted)]
        for case, (wanted, _, chosen) in CASES.items()
        if wanted == code
    }

    assert all(len(needed) == 1 for needed in found.values()), found


def _without(missing: Any, whole: Any, monkeypatch: pytest.MonkeyPatch, given: Facts, code: str) -> bool:
    with monkeypatch.context() as broken:
        broken.setattr("upshot.diagnosis.findings.RULES", tuple(rule for rule in whole if rule is not missing))
        return code in codes(diagnose(given))


def test_every_finding_is_documented() -> None:
    """The page has a row for each of those above, and no other."""
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", page.partition("## Findings")[2].partition("## What")[0], re.MULTILINE)

    assert {code for row in rows for code in re.findall("`([a-z_]+)`", row)} == {c for c, _, _ in CASES.values()} | {
        "all_well"
    }


def test_what_is_ordinary_is_no_finding() -> None:
    """Who buys had bought before; where not everybody is to take part there are strangers; past events are imported late."""
    early = replace(WELL, exposed_users=1_000, joined_users=400, users_before=40, events_before=90)
    strangers = replace(WELL, unknown_users=900, unknown_events=2_000)
    assert codes(diagnose(facts(joined=early))) == ["all_well"]
    some = experiment_of(traffic_percentage=Decimal(10))
    assert codes(diagnose(facts(experiment=some, joined=strangers))) == ["all_well"]
    past = diagnose(facts(joined=replace(WELL, arrivals=arrivals(-9e6, 0, flags=IMPORTED))))
    assert (codes(past), past.skew) == (["all_well"], None)
    assert codes(diagnose(facts(health=replace(TRUSTED, duplicates=2)))) == ["all_well"]


def test_the_worst_comes_first() -> None:
    """Problems before warnings, whatever the rules' order."""
    found = diagnose(
        facts(
            experiment=experiment_of(Status.PAUSED),
            received=[came("Purchase")],
            health=replace(TRUSTED, crossovers=1, sample_ratio=replace(EVEN, ok=False)),
        )
    )

    assert codes(found) == ["name_mismatch", "sample_ratio", "not_running", "crossovers"]


def test_quantiles_of_the_skew_are_values_of_it() -> None:
    """The median, and the value that 99 of 100 are not above."""
    numbers = list(range(1, 201))
    random.Random(1).shuffle(numbers)

    found = diagnose(facts(joined=replace(WELL, arrivals=arrivals(*numbers)))).skew

    assert found is not None
    assert (found.p50, found.p99) == (100, 198)


def missed(name: str, *others: Received) -> list[str]:
    """What is held to be meant by a name."""
    [part] = awaited([Metric("m", of_experiment(experiment_of(), NONE)[0].kind, (name,))], others)
    return [near.event_type for near in part.near_misses]


@pytest.mark.parametrize(
    ("name", "sent"),
    [("purchase", "Purchase"), ("sign_up", "signUp"), ("sign_up", "Sign-Up"), ("page view", "page.view"), ("purchase", "purchse"),
     ("purchase", "purchases"), ("signup", "singup"), ("ORDER", "order"), ("straße", "STRASSE")],
)  # fmt: skip
def test_a_planted_mistake_is_found(name: str, sent: str) -> None:
    """Case, separators, one slip."""
    assert missed(name, came("visit"), came(sent), came("scroll")) == [sent]


def test_names_that_are_right_or_others_are_no_mistakes() -> None:
    """An exact match is none, whatever is like it; nor is what another metric waits for, nor another word."""
    assert missed("purchase", came("purchase")) == []
    assert missed("view", came("view"), came("views")) == []
    assert missed("purchase", came("visit"), came("refund"), came("cart")) == []
    assert missed("_", came("-"), came("a")) == []
    both = [
        replace(Metric("m", of_experiment(experiment_of(), NONE)[0].kind), event_types=(name,))
        for name in ("view", "View")
    ]
    assert [part.near_misses for part in awaited(both, [came("View")])] == [(), ()]


def test_a_doctor_that_compares_names_as_they_are_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without folding, another case is not found where the right name came, too."""
    sent = came("purchase"), came("Purchase", 7)
    assert missed("purchase", *sent) == ["Purchase"]

    monkeypatch.setattr(names, "_plain", str)

    assert missed("purchase", *sent) == []


def test_the_likeliest_comes_first_and_a_few_are_named() -> None:
    """Equal but for case before slips; of these the likelier, then the commoner ones; at most five."""
    assert missed("purchase", came("purchse", 900), came("PURCHASE", 1), came("Purchase", 2)) == [
        "Purchase",
        "PURCHASE",
    ]
    slips = [came(f"purchase{n}", n) for n in range(1, 9)]
    assert missed("purchase", *slips) == [f"purchase{n}" for n in (8, 7, 6, 5, 4)]


def test_every_metric_that_waits_is_named() -> None:
    """Once, in the order of the metrics."""
    experiment = experiment_of(metrics=["refund", "purchase:count"], guardrails=["refund:sum"])

    found = diagnose(facts(experiment=experiment, received=[came("purchase", 3)]))

    assert [(part.event_type, part.metrics, part.events) for part in found.awaited] == [
        ("purchase", ("purchase", "purchase:count"), 3),
        ("refund", ("refund", "refund:sum"), 0),
    ]


def test_an_experiment_that_counts_everything_waits_for_no_name() -> None:
    """Whatever came is an example."""
    found = diagnose(facts(experiment=experiment_of(primary_metric=None)))

    assert (list(found.awaited), codes(found), found.example) == ([], ["all_well"], "visit")
    assert diagnose(facts(experiment=experiment_of(primary_metric=None), received=[])).example is None


def test_calls_are_safe_in_a_shell() -> None:
    """Names that mean something to a shell, or in an address, are quoted."""
    found = calls("https://host/", "a/b '$(rm)'", 'it\'s "one"')

    assert found.assign.endswith("https://host/experiments/a%2Fb%20%27%24%28rm%29%27/assignment/test-user-1")
    assert """'{"user_id": "test-user-1", "event_type": "it'"'"'s \\"one\\""}'""" in found.event
    assert all("$TOKEN" in line for line in found)
