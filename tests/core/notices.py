"""One notice of every occasion, of one experiment: what docs/webhooks.md shows."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from upshot import experiments, lifecycle
from upshot.clock import FixedClock
from upshot.experiments import Draft, Experiment
from upshot.variants import VariantDraft
from upshot.webhooks import Breach, Mismatch, Notice, Occasion, breached, mismatched, of_change

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
BREACH = Breach("latency", "green", "blue", "decrease", 0.05, 0.012, 0.089, 0.95)
MISMATCH = Mismatch(0.00002, {"blue": 5_000.0, "green": 5_000.0}, {"blue": 5_240, "green": 4_760})


def experiment(name: str = "Button", variants: tuple[str, str] = ("blue", "green")) -> Experiment:
    """A running experiment with two variants and a guardrail."""
    draft = Draft(
        name,
        [VariantDraft(variant) for variant in variants],
        key="button",
        primary_metric="purchase",
        guardrails=["latency"],
    )
    return experiments.create(draft, NOW, FixedClock().new_id)


def changed(before: Experiment, **changes: object) -> Experiment:
    """The experiment a day later, with other fields."""
    return lifecycle.change(before, changes, NOW + timedelta(days=1), FixedClock().new_id, ())


def notices(name: str = "Button", variants: tuple[str, str] = ("blue", "green")) -> dict[Occasion, Notice]:
    """A notice of every occasion."""
    running = experiment(name, variants)
    found = (
        of_change(None, running),
        of_change(running, changed(running, name=f"Buy {name}", traffic_percentage=Decimal(50))),
        of_change(running, lifecycle.move(running, "complete", NOW + timedelta(days=14))),
        breached(running, BREACH, NOW + timedelta(days=3)),
        mismatched(running, MISMATCH, NOW + timedelta(days=2)),
    )
    return {notice.occasion: notice for notice in found if notice}
