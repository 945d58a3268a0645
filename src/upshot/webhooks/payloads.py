"""Payloads: a notice as text, in the form that a webhook asks for.

`standard` is the document of Standard Webhooks, `{"type", "timestamp", "data"}`; `slack` is a message for a person, which Slack,
Mattermost and Discord take. Fields of `data` are added, never changed.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from upshot.experiments import Experiment
from upshot.webhooks import slack
from upshot.webhooks.occasions import Breach, Mismatch, Notice, allocation_of


class Form(StrEnum):
    """The forms of a payload."""

    STANDARD = "standard"
    SLACK = "slack"


def document(notice: Notice) -> dict[str, Any]:
    """A notice for a program."""
    return {
        "type": str(notice.occasion),
        "timestamp": _moment(notice.at),
        "data": {"experiment": _experiment(notice.experiment)} | _facts(notice),
    }


_FORMS: Mapping[Form, Callable[[Notice], dict[str, Any]]] = MappingProxyType(
    {Form.STANDARD: document, Form.SLACK: slack.message}
)


def payload_of(notice: Notice, form: Form) -> str:
    """The payload as JSON in ASCII: every attempt sends the same bytes, and every receiver reads them alike."""
    return json.dumps(_FORMS[form](notice), separators=(",", ":"), allow_nan=False)


def _experiment(experiment: Experiment) -> dict[str, Any]:
    return {
        "id": experiment.id,
        "key": experiment.key,
        "name": experiment.name,
        "status": str(experiment.status),
        "version": experiment.version,
        "primary_metric": experiment.primary_metric,
        "traffic_allocation": allocation_of(experiment),
        "control": experiment.control.name,
        "winner": experiment.winning,
        "started_at": experiment.started_at and _moment(experiment.started_at),
        "ended_at": experiment.ended_at and _moment(experiment.ended_at),
    }


def _facts(notice: Notice) -> dict[str, Any]:
    match notice.fact:
        case Breach() as breach:
            return {
                "guardrail": {
                    "metric": breach.metric,
                    "variant": breach.variant,
                    "baseline": breach.baseline,
                    "direction": breach.direction,
                    "lift": breach.lift,
                    "interval": {"lower": breach.lower, "upper": breach.upper},
                    "confidence_level": breach.confidence_level,
                }
            }
        case Mismatch() as mismatch:
            return {
                "sample_ratio": {
                    "p_value": mismatch.p_value,
                    "expected": dict(mismatch.expected),
                    "observed": dict(mismatch.observed),
                }
            }
        case None:
            return {}
        case changes:
            return {"changes": [{"field": c.field, "before": c.before, "after": c.after} for c in changes]}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
