"""An experiment as a JSON document for people: what the audit log compares and webhooks carry."""

from typing import Any

from upshot import analysisplan, targeting
from upshot.allocation import percent_of
from upshot.assignment import WHOLE
from upshot.experiments import Experiment
from upshot.layers import share_of


def describe(experiment: Experiment) -> dict[str, Any]:
    """What people chose and where the experiment stands: texts, moments in ISO 8601, shares in percent. No internal numbers."""
    whole = sum(variant.weight for variant in experiment.variants)
    return {
        "id": experiment.id,
        "key": experiment.key,
        "name": experiment.name,
        "description": experiment.description,
        "hypothesis": experiment.hypothesis,
        "status": str(experiment.status),
        "primary_metric": experiment.primary_metric,
        "metrics": list(experiment.metrics),
        "guardrails": list(experiment.guardrails),
        "targeting": targeting.dump(experiment.rule),
        "traffic_percentage": percent_of(experiment.traffic, WHOLE),
        "variants": [
            {
                "name": variant.name,
                "is_control": variant.is_control,
                "traffic_allocation": percent_of(variant.weight, whole),
                "config": variant.config,
            }
            for variant in experiment.variants
        ],
        "owner": experiment.owner,
        "tags": list(experiment.tags),
        "layers": [
            {"layer": slot.layer, "percentage": percent_of(share_of(slot), WHOLE)} for slot in experiment.layers
        ],
        "holdouts": [held.key for held in experiment.holdouts],
        "overrides": [
            {
                "variant": next((v.name for v in experiment.variants if v.position == each.variant), None),
                "users": list(each.users),
                "targeting": each.rule and targeting.dump(each.rule),
            }
            for each in experiment.overrides
        ],
        "winner": experiment.winning,
        "plan": analysisplan.options_of(experiment.plan),
        "started_at": experiment.started_at and experiment.started_at.isoformat(),
        "ended_at": experiment.ended_at and experiment.ended_at.isoformat(),
        "version": experiment.version,
    }
